/**
 * The parsed fields of request heads, by their text. Envoy repeats every byte of the fields for the requests of a client, until it gets new
 * terms. A look-up takes a quarter of the time of the parser.
 */
import { ownCopy } from '../../shared/own-copy.ts';
import type { PlainFields } from './plain-head.ts';

/** An entry takes up to about 2 KiB. A full map evicts its oldest entry. */
const maxEntries = 4_096;
const maxTextChars = 1_024;
/** One of this many unknown texts is kept. So texts that do not repeat cost little, and a repeated text is soon known. */
const keepEvery = 8;

export class KnownFields {
  readonly #byText = new Map<string, PlainFields>();
  #unknown = 0;

  get size(): number {
    return this.#byText.size;
  }

  get(text: string): PlainFields | undefined {
    return this.#byText.get(text);
  }

  /** Call it for fields that `get` did not return. */
  note(text: string, fields: PlainFields): void {
    this.#unknown += 1;
    if (this.#unknown % keepEvery !== 0 || text.length > maxTextChars || !isRepeatable(fields)) return;
    if (this.#byText.size >= maxEntries) this.#byText.delete(this.#byText.keys().next().value as string);
    // The fields are substrings of a request head. Each would keep the whole head in memory.
    const own = Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, typeof value === 'string' ? ownCopy(value) : value]),
    );
    this.#byText.set(ownCopy(text), own as unknown as PlainFields);
  }
}

/** Ranges, conditions and ids differ from request to request. */
function isRepeatable(fields: PlainFields): boolean {
  const { length, range, ifRange, ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince, requestId, traceparent } = fields;
  const single = [range, ifRange, ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince, requestId, traceparent];
  return length === undefined && single.every((field) => field === undefined);
}
