/** Pure: globs of one name, where `*` matches any part of it, including an empty one. Matching takes at most |glob| × |name| steps. */

export function isGlob(text: string): boolean {
  return text.includes('*');
}

export function globMatches(glob: string, name: string): boolean {
  const parts = glob.split('*');
  const first = parts[0] as string;
  const last = parts[parts.length - 1] as string;
  if (parts.length === 1) return glob === name;
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  const end = name.length - last.length;
  let from = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, from);
    if (found < 0 || found + part.length > end) return false;
    from = found + part.length;
  }
  return true;
}

/** Whether a name exists that matches both globs. */
export function globsOverlap(a: string, b: string): boolean {
  const known = new Map<number, boolean>();
  const overlap = (i: number, j: number): boolean => {
    const position = i * (b.length + 1) + j;
    const answer = known.get(position) ?? decide(i, j);
    known.set(position, answer);
    return answer;
  };
  const decide = (i: number, j: number): boolean => {
    if (i === a.length && j === b.length) return true;
    // A star matches nothing, or the next character of the other glob.
    if (a[i] === '*') return overlap(i + 1, j) || (j < b.length && overlap(i, j + 1));
    if (b[j] === '*') return overlap(i, j + 1) || (i < a.length && overlap(i + 1, j));
    return i < a.length && a[i] === b[j] && overlap(i + 1, j + 1);
  };
  return overlap(0, 0);
}
