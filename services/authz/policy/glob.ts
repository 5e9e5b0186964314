/** Pure: globs of one name, where `*` matches any part of it, including an empty one. Matching takes at most |glob| × |name| steps. */

export function isGlob(text: string): boolean {
  return text.includes('*');
}

export function globMatches(glob: string, name: string): boolean {
  if (!isGlob(glob)) return glob === name;
  const parts = glob.split('*');
  const first = parts[0] as string;
  const last = parts[parts.length - 1] as string;
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

/**
 * Whether a name exists that matches both globs. Where both have a star, their beginnings and their ends decide: a name can hold the middle
 * parts of one after those of the other. The name may be longer than Kubernetes allows.
 */
export function globsOverlap(a: string, b: string): boolean {
  if (!isGlob(a)) return globMatches(b, a);
  if (!isGlob(b)) return globMatches(a, b);
  const [startA, startB] = [a.slice(0, a.indexOf('*')), b.slice(0, b.indexOf('*'))];
  const [endA, endB] = [a.slice(a.lastIndexOf('*') + 1), b.slice(b.lastIndexOf('*') + 1)];
  return (startA.startsWith(startB) || startB.startsWith(startA)) && (endA.endsWith(endB) || endB.endsWith(endA));
}
