// The administrator's messages in the language of the app, and the administrator's calls.

import { AdminService } from "@free2talk/client/gen/free2talk/admin/v1/admin_service_pb";
import { api } from "../backend";
import { i18n } from "../i18n/index.svelte";
import { ar } from "./ar";
import { type AdminMessages, en } from "./en";
import { es } from "./es";

const all: Record<typeof i18n.locale, AdminMessages> = { en, es, ar };

/** messages are read as `messages.t`, and follow the choice of a language. */
export const messages = {
  get t(): AdminMessages {
    return all[i18n.locale];
  },
};

/** admin is what only administrators may call. */
export const admin = api.client(AdminService);
