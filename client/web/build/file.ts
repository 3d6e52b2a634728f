// What takes the place of fileDesc in the app: see schemas.ts.

import { createFileRegistry, type DescFile } from "@bufbuild/protobuf";
import { protoCamelCase } from "@bufbuild/protobuf/reflect";
import type { DescriptorProto, FileDescriptorProto } from "@bufbuild/protobuf/wkt";

/** fileOf is protobuf-es' fileDesc, of a descriptor that was read before. It becomes part of the file. */
export function fileOf(read: object, imports: DescFile[] = []): DescFile {
  const proto = read as FileDescriptorProto;
  proto.messageType.forEach(nameForJson);
  proto.dependency = imports.map((file) => file.proto.name);
  const registry = createFileRegistry(proto, (name) => imports.find((file) => file.proto.name === name));
  return registry.getFile(proto.name) as DescFile;
}

function nameForJson(message: DescriptorProto): void {
  for (const field of message.field) field.jsonName ??= protoCamelCase(field.name);
  message.nestedType.forEach(nameForJson);
}
