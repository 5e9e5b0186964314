/** Pure: JSON patch, https://www.rfc-editor.org/rfc/rfc6902. */
import { isFields } from './object.ts';
import { inOneOrder } from './validation.ts';

/** The patch is no patch at all. */
export class MalformedPatch extends Error {}
/** A test failed, or a path leads nowhere. */
export class PatchFailed extends Error {}

/** Returns the patched copy. Throws MalformedPatch or PatchFailed. */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw new MalformedPatch('a JSON patch is a list of operations');
  return patch.reduce<unknown>((document, operation) => apply(document, operation), target);
}

function apply(document: unknown, operation: unknown): unknown {
  if (!isFields(operation)) throw new MalformedPatch('an operation is an object');
  const { op, value } = operation;
  const path = segments(operation.path);
  switch (op) {
    case 'add':
      return change(document, path, (parent, last) => insert(parent, last, value));
    case 'replace':
      read(document, path);
      return change(document, path, (parent, last) => set(parent, last, value));
    case 'remove':
      read(document, path);
      return change(document, path, remove);
    case 'test':
      if (JSON.stringify(inOneOrder(read(document, path))) !== JSON.stringify(inOneOrder(value))) throw new PatchFailed('a test failed');
      return document;
    case 'copy':
    case 'move': {
      const from = segments(operation.from);
      const moved = read(document, from);
      const rest = op === 'move' ? change(document, from, remove) : document;
      return change(rest, path, (parent, last) => insert(parent, last, moved));
    }
    default:
      throw new MalformedPatch(`unknown operation ${JSON.stringify(op)}`);
  }
}

function segments(path: unknown): string[] {
  if (typeof path !== 'string' || (path !== '' && !path.startsWith('/'))) throw new MalformedPatch('a path begins with a slash');
  return path
    .split('/')
    .slice(1)
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function read(document: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((part, segment) => {
    const found = Array.isArray(part)
      ? part[index(part, segment)]
      : isFields(part) && Object.hasOwn(part, segment)
        ? part[segment]
        : undefined;
    if (found === undefined) throw new PatchFailed(`nothing at ${path.join('/')}`);
    return found;
  }, document);
}

/** Copies what lies on the way and lets `make` give the last container anew. */
function change(document: unknown, path: readonly string[], make: (parent: unknown, last: string) => unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) throw new PatchFailed('the whole document cannot be replaced');
  if (rest.length === 0) return make(document, first);
  return set(document, first, change(read(document, [first]), rest, make));
}

function insert(parent: unknown, last: string, value: unknown): unknown {
  if (!Array.isArray(parent)) return set(parent, last, value);
  const at = last === '-' ? parent.length : index(parent, last);
  return parent.toSpliced(at, 0, value);
}

function set(parent: unknown, last: string, value: unknown): unknown {
  if (Array.isArray(parent)) return parent.with(index(parent, last), value);
  if (!isFields(parent)) throw new PatchFailed(`nothing holds ${last}`);
  return { ...parent, [last]: value };
}

function remove(parent: unknown, last: string): unknown {
  if (Array.isArray(parent)) return parent.toSpliced(index(parent, last), 1);
  const { [last]: _removed, ...rest } = parent as Record<string, unknown>;
  return rest;
}

function index(list: readonly unknown[], segment: string): number {
  if (!/^(0|[1-9]\d{0,8})$/.test(segment) || Number(segment) > list.length) throw new PatchFailed(`no place ${segment} in a list`);
  return Number(segment);
}
