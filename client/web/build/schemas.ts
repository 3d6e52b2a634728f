// Schemas that are read when the app is built. Generated code carries its descriptors as base64 of protobuf, which
// every visitor's browser would decode, by the descriptor of descriptors, before anything is shown.

import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";

const runtime = fileURLToPath(new URL("file.ts", import.meta.url));

/** schemas has the app carry its descriptors as objects. */
export const schemas: Plugin = {
  name: "schemas",
  transform(code, id) {
    if (!/_pb\.[jt]s$/.test(id) || !code.includes("fileDesc(")) return;
    const read = code.replace(/\bfileDesc\("([\w+/]+=*)"/g, (as: string, packed: string) => {
      const file = described(packed);
      return file ? `fileOf(${JSON.stringify(file)}` : as;
    });
    return { code: `import { fileOf } from ${JSON.stringify(runtime)};\n${read}`, map: null };
  },
};

/** Described is a descriptor without what a browser has no use for. */
type Described = { [field: string]: unknown };

/** described reads a file's descriptor, packed as generated code has it; undefined where it is not of proto3, which alone has no defaults. */
export function described(packed: string): Described | undefined {
  const file = plain(FileDescriptorProtoSchema, fromBinary(FileDescriptorProtoSchema, base64Decode(packed)));
  if (file["syntax"] !== "proto3") return;
  delete file["options"]; // how other languages name it
  return { $typeName: FileDescriptorProtoSchema.typeName, ...file };
}

/** lists are those which the registry reads, also where they are empty. */
const lists = new Set("messageType enumType service extension field nestedType oneofDecl value method".split(" "));

/** plain is a message as an object of what is set in it. */
function plain(schema: DescMessage, message: Message): Described {
  const object: Described = {};
  for (const field of schema.fields) {
    const name = field.localName;
    const value = (message as unknown as Described)[name];
    if (!Object.hasOwn(message, name) || value === undefined) continue;
    if (field.fieldKind === "list") {
      const all = value as unknown[];
      const element = field.listKind === "message" ? field.message : undefined;
      if (all.length > 0 || lists.has(name)) object[name] = all.map((one) => (element ? plain(element, one as Message) : one));
    } else {
      object[name] = field.fieldKind === "message" ? plain(field.message, value as Message) : value;
    }
  }
  return object;
}
