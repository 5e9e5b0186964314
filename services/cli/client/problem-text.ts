/** Pure: the text of an error response, in one line. */

const maxShownCharacters = 1_000;

/** Returns `403 forbidden: no rule allows …`, or the beginning of the text if it is not a problem document (RFC 9457). */
export function problemText(status: number, text: string): string {
  try {
    const { code, detail } = JSON.parse(text) as { code?: unknown; detail?: unknown };
    if (typeof code === 'string') return `${status} ${code}${typeof detail === 'string' ? `: ${detail.slice(0, maxShownCharacters)}` : ''}`;
  } catch {
    // Another server wrote this body. Show it unchanged.
  }
  return `${status} ${text.trim().slice(0, maxShownCharacters)}`.trim();
}
