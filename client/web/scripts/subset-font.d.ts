declare module "subset-font" {
  /** The characters of text, and no others, out of a font. */
  export default function subsetFont(
    font: Buffer,
    text: string,
    options: { targetFormat: "woff2"; noLayoutClosure?: boolean },
  ): Promise<Buffer>;
}
