/** Pure: the document in a file, which may be a ConfigMap as `kubectl get configmap kura-policy -o yaml` prints it. */
import { isScalar, LineCounter, parseDocument } from 'yaml';

/** Of a document in its ConfigMap. */
type DocumentKey = 'policy.yaml' | 'origins.yaml';

/** Returns the document with the lines and columns that it has in `text`. Any other text is returned as it is. */
export function documentText(text: string, key: DocumentKey): string {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter });
  if (document.errors.length > 0 || document.get('kind') !== 'ConfigMap') return text;
  const node = document.getIn(['data', key], true);
  if (!isScalar(node) || typeof node.value !== 'string') return text;
  const range = node.range ?? undefined;
  // A document whose every line is indented is YAML too, except for its markers.
  if (range === undefined || node.type !== 'BLOCK_LITERAL' || /^(---|\.\.\.)/m.test(node.value)) return node.value;
  const { line } = counter.linePos(range[0]);
  return `${'\n'.repeat(line)}${text.slice(text.indexOf('\n', range[0]) + 1, range[1])}`;
}
