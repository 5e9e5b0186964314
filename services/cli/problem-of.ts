/** Pure: what an answer that refuses says, in one line. */

const shownCharacters = 200;

/** `403 forbidden: no rule allows …`, or the beginning of the text where it is no problem body (design.md, section 2). */
export function problemOf(status: number, text: string): string {
  try {
    const { code, detail } = JSON.parse(text) as { code?: unknown; detail?: unknown };
    if (typeof code === 'string') return `${status} ${code}${typeof detail === 'string' ? `: ${detail.slice(0, shownCharacters)}` : ''}`;
  } catch {
    // Not ours: shown as it came.
  }
  return `${status} ${text.trim().slice(0, shownCharacters)}`.trim();
}
