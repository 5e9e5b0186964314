/** Pure: finds invalid objects. Checks only mistakes that an operator of kura may make; the real API checks far more. */
import { isFields, type ObjectInput, type StoredObject } from './object.ts';
import { apiVersionOf, type Resource } from './resources.ts';
import { badRequest, type FieldProblem, invalid, notServed } from './status.ts';

/** The real API's limit for the data of a ConfigMap. */
const maxConfigMapBytes = 2 ** 20;
/** The real API's pattern for names. Names of Namespaces and Services are shorter and have no dots. */
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const labelValue = /^(?!.{64})(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const configKey = /^[-._a-zA-Z0-9]{1,253}$/;

/** Throws ApiError: 400 unless the input is an object of the kind in its path, 405 for a finalizer. */
export function requireForm(resource: Resource, input: ObjectInput): void {
  const { kind, metadata } = input;
  const expected = apiVersionOf(resource);
  const apiVersion = input.apiVersion ?? expected;
  if ((kind ?? resource.kind) !== resource.kind || apiVersion !== expected) {
    throw badRequest(`${kind} in version "${apiVersion}" cannot be handled as a ${resource.kind}`);
  }
  const cannot = (what: string): never => {
    throw badRequest(`${resource.kind} in version "v1" cannot be handled as a ${resource.kind}: json: cannot unmarshal ${what}`);
  };
  for (const part of ['metadata', 'spec', 'status'] as const) {
    if (!isFields(input[part] ?? {})) cannot(`into Go struct field ${resource.kind}.${part}`);
  }
  const texts: Record<string, unknown> = {
    'ObjectMeta.metadata.labels': metadata?.labels,
    'ObjectMeta.metadata.annotations': metadata?.annotations,
    ...(resource.plural === 'configmaps' ? { 'ConfigMap.data': input.data } : {}),
  };
  for (const [field, value] of Object.entries(texts)) {
    if (!isFields(value ?? {})) cannot(`into Go struct field ${field} of type map[string]string`);
    const wrong = Object.values(value ?? {}).find((item) => typeof item !== 'string');
    if (wrong !== undefined) cannot(`${isFields(wrong) ? 'object' : typeof wrong} into Go struct field ${field} of type string`);
  }
  if (metadata?.finalizers?.length) throw notServed('finalizers');
}

/** Throws ApiError (422) for an object that the real API rejects. */
export function requireValid(resource: Resource, object: StoredObject): void {
  const problem =
    nameProblem(resource, object) ?? labelProblem(object) ?? (resource.plural === 'configmaps' ? dataProblem(object) : undefined);
  if (problem !== undefined) throw invalid(resource, object.metadata.name, problem);
}

function nameProblem({ plural }: Resource, { metadata: { name } }: StoredObject): FieldProblem | undefined {
  const field = 'metadata.name';
  if (name === '') return { field, reason: 'FieldValueRequired', message: 'Required value: name or generateName is required' };
  const isLabel = plural === 'namespaces' || plural === 'services';
  if (subdomain.test(name) && name.length <= (isLabel ? 63 : 253) && !(isLabel && name.includes('.'))) return undefined;
  return mismatch(field, name, `a lowercase RFC 1123 ${isLabel ? 'label' : 'subdomain'}`);
}

function labelProblem({ metadata }: StoredObject): FieldProblem | undefined {
  const wrong = Object.values(metadata.labels ?? {}).find((value) => !labelValue.test(value));
  return wrong === undefined ? undefined : mismatch('metadata.labels', wrong, 'a valid label');
}

function dataProblem({ data, binaryData }: StoredObject): FieldProblem | undefined {
  const entries = [data, binaryData].flatMap((part) => Object.entries(isFields(part) ? part : {}));
  const wrong = entries.find(([key]) => !configKey.test(key))?.[0];
  if (wrong !== undefined) return mismatch(`data[${wrong}]`, wrong, 'a valid config key');
  const sizeBytes = entries.reduce((sum, [, text]) => sum + Buffer.byteLength(String(text)), 0);
  if (sizeBytes <= maxConfigMapBytes) return undefined;
  return { field: '[]', reason: 'FieldValueTooLong', message: `Too long: may not be more than ${maxConfigMapBytes} bytes` };
}

function mismatch(field: string, value: string, what: string): FieldProblem {
  const message = `Invalid value: ${JSON.stringify(value)}: ${what} must consist of the characters that Kubernetes allows there`;
  return { field, reason: 'FieldValueInvalid', message };
}
