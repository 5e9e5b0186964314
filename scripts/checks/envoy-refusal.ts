/** Pure: reads the error text of `envoy --mode validate`, and finds the place in the YAML that it is about. */
import { type Document, isAlias, isMap, isScalar, isSeq, type Node, type Scalar, visit } from 'yaml';

/** Why Envoy rejects a bootstrap. */
export interface Refusal {
  /** One line, without the copy of the whole bootstrap that Envoy puts in front or behind. */
  readonly reason: string;
  /** Where Envoy found it. Empty when Envoy names no place. */
  readonly path: readonly (string | number)[];
  /** The message in which the path begins, such as `HttpConnectionManager`. Undefined when it begins at the top. */
  readonly message?: string | undefined;
}

const maxReasonLength = 300;
/** A shorter value occurs in a reason by chance. */
const minQuotedLength = 3;

export function refusalOf(stderr: string): Refusal {
  const text = stderr.replaceAll(/\s+/g, ' ');
  const constraint = /Proto constraint validation failed \((.*)\)/.exec(text)?.[1];
  if (constraint !== undefined) return constraintRefusal(constraint);
  const parse = /INVALID_ARGUMENT: (.*)/.exec(text)?.[1];
  if (parse !== undefined) {
    const path = /^invalid JSON in \S+ @ (\S+): /.exec(parse)?.[1];
    const reason = parse.replace(/^invalid JSON in .*?\(offset \d+\): /, '').replace(/\): \{.*$|\) has unknown fields.*$/, '');
    return { reason: short(reason), path: segments(path ?? '') };
  }
  return { reason: short(text.replace(/^.*?error initializing configuration '[^']*': /, '').trim()), path: [] };
}

/** The node that the refusal is about. Undefined when nothing in the document can be it. */
export function refusedNode(document: Document, { reason, path, message }: Refusal): Node | undefined {
  const starts = message === undefined ? [document.contents] : nodesOfType(document, message);
  for (const start of path.length === 0 ? [] : starts) {
    const node = nodeAt(document, start, path);
    if (node !== undefined) return quotedNode(node, reason) ?? node;
  }
  return document.contents === null ? undefined : quotedNode(document.contents as Node, reason);
}

/** The deepest node on the way along `path`. A string selects a key, or the list entry of that name; a number the entry of a list. */
export function nodeAt(document: Document, start: unknown, path: readonly (string | number)[]): Node | undefined {
  let node = resolved(document, start);
  for (const step of path) {
    const next = resolved(document, childOf(node, step));
    if (next === undefined) break;
    node = next;
  }
  return node;
}

function childOf(node: Node | undefined, step: string | number): unknown {
  if (isSeq(node)) {
    const at = Number(step);
    return Number.isInteger(at) ? node.items[at] : node.items.find((item) => isMap(item) && item.get('name') === step);
  }
  if (!isMap(node)) return undefined;
  // Envoy counts the entries of a map in another order, so a number is clear only for a map with one entry.
  if (typeof step === 'number') return node.items.length === 1 ? node.items[0]?.value : undefined;
  const pair = node.items.find(({ key }) => isScalar(key) && key.value === step);
  return isScalar(pair?.value) ? pair.key : pair?.value;
}

function resolved(document: Document, node: unknown): Node | undefined {
  return isAlias(node) ? node.resolve(document) : ((node ?? undefined) as Node | undefined);
}

/** `ListenerValidationError.Address: embedded message failed validation | caused by AddressValidationError.SocketAddress: …` */
function constraintRefusal(text: string): Refusal {
  const steps = text.split(/ ?\| caused by /);
  const path = steps.flatMap((step) => {
    const [, field, index] = /^\w+ValidationError\.(\w+)(?:\[(\d+)\])?:/.exec(step) ?? [];
    if (field === undefined) return [];
    const name = field.replaceAll(/(?<=[a-z0-9])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
    return index === undefined ? [name] : [name, Number(index)];
  });
  const top = /^(\w+)ValidationError\./.exec(text)?.[1];
  const reason = (steps.at(-1) as string).replace(/^\w+ValidationError\.\w+(?:\[\d+\])?: /, '');
  return { reason: short(reason), path, message: top === 'Bootstrap' ? undefined : top };
}

/** `listeners[0].typed_config.<any>.name`: an Any has no step in YAML. */
function segments(path: string): (string | number)[] {
  return [...path.matchAll(/\[(\d+)\]|[^.[\]]+/g)].flatMap(([whole, index]) => {
    if (whole === '<any>') return [];
    return [index === undefined ? whole : Number(index)];
  });
}

function nodesOfType(document: Document, message: string): Node[] {
  const found: Node[] = [];
  visit(document, {
    Map: (_, node) => {
      if (String(node.get('@type')).endsWith(`.${message}`)) found.push(node);
    },
  });
  return found;
}

/** The key or the value below `node` that the reason quotes, or that contains what it quotes. */
function quotedNode(node: Node, reason: string): Node | undefined {
  const quoted = [...reason.matchAll(/'([^']+)'|"([^"]+)"|: ([^:'"]+)$/g)].map(
    ([, ...texts]) => texts.find((text) => text !== undefined) as string,
  );
  const texts = quoted.filter((text) => text.length >= minQuotedLength);
  const scalars: Scalar[] = [];
  const collect = (each: unknown): void => void (isScalar(each) && scalars.push(each));
  visit(node, { Scalar: (_, scalar) => collect(scalar), Pair: (_, { key }) => collect(key) });
  return (
    scalars.find(({ value }) => texts.includes(String(value))) ??
    scalars.find(({ value }) => texts.some((text) => String(value).includes(text)))
  );
}

function short(reason: string): string {
  return reason.length <= maxReasonLength ? reason : `${reason.slice(0, maxReasonLength)} …`;
}
