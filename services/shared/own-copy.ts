/**
 * Copies a Latin-1 string that stays in memory. A substring keeps its whole source in memory, for example a request head of up to 8 KiB or
 * a chunk of a body.
 */
export function ownCopy<Text extends string>(text: Text): Text {
  return Buffer.from(text, 'latin1').toString('latin1') as Text;
}
