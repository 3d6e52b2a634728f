// The app's descriptors are read when it is built (build/schemas.ts): they are to be what protobuf-es would have made.

import type { DescEnum, DescField, DescFile, DescMessage, DescService } from "@bufbuild/protobuf";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { fileOf } from "../build/file.js";
import { described, schemas } from "../build/schemas.js";

const gen = fileURLToPath(new URL("../src/gen/", import.meta.url));
const wkt = fileURLToPath(new URL("../node_modules/@bufbuild/protobuf/dist/esm/wkt/gen/", import.meta.url));

const generated = [gen, wkt].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => /_pb\.(ts|js)$/.test(path))
    .map((path) => folder + path)
    .filter((path) => readFileSync(path, "utf8").includes('fileDesc("')),
);

/** packed is the descriptor in a generated file. */
function packed(path: string): string {
  const [, text] = /fileDesc\("([^"]+)"/.exec(readFileSync(path, "utf8")) ?? [];
  if (!text) throw new Error("there is no descriptor in it");
  return text;
}

const read = generated.filter((path) => described(packed(path)));

describe("a descriptor read at build time is protobuf-es' own", () => {
  test.each(read)("%s", async (path) => {
    const module = (await import(path)) as Record<string, DescFile>;
    const file = Object.values(module).find((value) => value.kind === "file");
    if (!file) throw new Error("there is no file in it");
    expect(summary(fileOf(described(packed(path)) ?? {}, file.dependencies))).toEqual(summary(file));
  });
});

test("none of ours stays packed in the app", () => {
  const transform = schemas.transform as (code: string, id: string) => { code: string } | undefined;
  const ours = read.filter((path) => path.startsWith(gen));
  expect(ours.length).toBeGreaterThan(0);
  for (const path of ours) {
    const code = transform(readFileSync(path, "utf8"), path)?.code ?? "";
    expect(code).toContain("fileOf({");
    expect(code).not.toContain('fileDesc("');
  }
});

/** summary is all that one may ask of a file, without what leads back to it. */
function summary(file: DescFile): unknown {
  return {
    ...own(file),
    dependencies: file.dependencies.map((f) => f.name),
    enums: file.enums.map(enumeration),
    messages: file.messages.map(message),
    services: file.services.map(service),
    extensions: file.extensions.map((e) => [own(e), e.extendee.typeName]),
  };
}

const message = (m: DescMessage): unknown => ({
  ...own(m),
  fields: m.fields.map(field),
  members: m.members.map((one) => one.localName),
  oneofs: m.oneofs.map((o) => [own(o), o.fields.map((f) => f.localName)]),
  nested: m.nestedMessages.map(message),
  enums: m.nestedEnums.map(enumeration),
});

const field = (f: DescField): unknown => ({
  ...own(f),
  oneof: f.oneof?.localName,
  message: f.message?.typeName,
  enum: f.enum?.typeName,
  default: f.fieldKind === "scalar" || f.fieldKind === "enum" ? f.getDefaultValue() : undefined,
});

const enumeration = (e: DescEnum): unknown => ({ ...own(e), values: e.values.map(own) });

const service = (s: DescService): unknown => ({
  ...own(s),
  methods: s.methods.map((m) => [own(m), m.input.typeName, m.output.typeName]),
});

/** own are the plain values of a descriptor. */
function own(desc: object): object {
  return Object.fromEntries(Object.entries(desc).filter(([, value]) => typeof value !== "object" && typeof value !== "function"));
}
