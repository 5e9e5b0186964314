/** Pure: which objects are refused, in the real API's words. Only what a user of kura may well get wrong; the real API checks far more (README). */
import { type Fields, isFields, type ObjectInput, type StoredObject } from './object.ts';
import { apiVersionOf, type Resource } from './resources.ts';
import { badRequest, type FieldProblem, invalid } from './status.ts';

/** The real API's limit of a ConfigMap's data. */
const configMapLimitBytes = 2 ** 20;
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const subdomainRule =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const byte = '(25[0-5]|2[0-4]\\d|1?\\d?\\d)';
const ipv4 = new RegExp(`^${byte}(\\.${byte}){3}$`);
/** The form alone. */
const ipv6 = /^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$/;
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const labelRule =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const configKey = /^[-._a-zA-Z0-9]{1,253}$/;
const configKeyRule =
  "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const podRule =
  'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

/** Throws ApiError (400) unless the input has the form of the kind that its path says. */
export function requireForm(resource: Resource, input: ObjectInput): void {
  const { kind, apiVersion } = input;
  const expected = apiVersionOf(resource);
  if ((kind ?? resource.kind) !== resource.kind || (apiVersion ?? expected) !== expected) {
    throw badRequest(`${kind} in version "${apiVersion ?? expected}" cannot be handled as a ${resource.kind}`);
  }
  const cannot = (what: string): never => {
    throw badRequest(`${resource.kind} in version "v1" cannot be handled as a ${resource.kind}: json: cannot unmarshal ${what}`);
  };
  for (const part of ['metadata', 'spec', 'status'] as const) {
    if (input[part] !== undefined && input[part] !== null && !isFields(input[part]))
      cannot(`into Go struct field ${resource.kind}.${part}`);
  }
  const texts: Record<string, unknown> = {
    'ObjectMeta.metadata.labels': input.metadata?.labels,
    'ObjectMeta.metadata.annotations': input.metadata?.annotations,
    ...(resource.plural === 'configmaps' ? { 'ConfigMap.data': input.data } : {}),
  };
  for (const [field, value] of Object.entries(texts)) {
    if (value === undefined || value === null) continue;
    if (!isFields(value)) cannot(`into Go struct field ${field} of type map[string]string`);
    const wrong = Object.values(value).find((item) => typeof item !== 'string');
    if (wrong !== undefined) cannot(`${isFields(wrong) ? 'object' : typeof wrong} into Go struct field ${field} of type string`);
  }
}

/** Throws ApiError (422) for an object that may not exist. */
export function requireValid(resource: Resource, object: StoredObject): void {
  const problems = [...metadataProblems(resource, object), ...(checks[resource.plural]?.(object) ?? [])];
  if (problems.length > 0) throw invalid(resource, object.metadata.name, problems);
}

/** Throws ApiError (422) for a change that may not be made. */
export function requireValidChange(resource: Resource, { previous, next }: { previous: StoredObject; next: StoredObject }): void {
  const problems: FieldProblem[] = [];
  if (resource.plural === 'endpointslices' && next.addressType !== previous.addressType) {
    problems.push({
      field: 'addressType',
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(next.addressType)}: field is immutable`,
    });
  }
  if (resource.plural === 'pods' && JSON.stringify(fixedSpec(next.spec)) !== JSON.stringify(fixedSpec(previous.spec))) {
    problems.push({ field: 'spec', reason: 'FieldValueForbidden', message: podRule });
  }
  if (problems.length > 0) throw invalid(resource, next.metadata.name, problems);
}

const checks: Readonly<Record<string, (object: StoredObject) => FieldProblem[]>> = {
  configmaps: ({ data, binaryData }) => {
    const size = [data, binaryData].reduce<number>((sum, part) => sum + textBytes(part), 0);
    const tooLong = {
      field: '[]',
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${configMapLimitBytes} bytes`,
    } as const;
    const badKeys = Object.keys(isFields(data) ? data : {}).filter((key) => !configKey.test(key));
    const problems = badKeys.map((key) => {
      const message = `Invalid value: ${JSON.stringify(key)}: ${configKeyRule}`;
      return { field: `data[${key}]`, reason: 'FieldValueInvalid', message } as const;
    });
    return size > configMapLimitBytes ? [...problems, tooLong] : problems;
  },
  pods: ({ spec }) => {
    const containers = list(spec?.containers);
    if (containers.length === 0) return [required('spec.containers')];
    return containers.flatMap((container, at) =>
      ['name', 'image'].filter((field) => !container[field]).map((field) => required(`spec.containers[${at}].${field}`)),
    );
  },
  services: ({ spec }) => (list(spec?.ports).length === 0 && spec?.clusterIP !== 'None' ? [required('spec.ports')] : []),
  endpointslices: (slice) => {
    const { addressType } = slice;
    if (!addressType) return [required('addressType')];
    return list(slice.endpoints).flatMap((endpoint, at) => {
      const addresses = Array.isArray(endpoint.addresses) ? endpoint.addresses : [];
      if (addresses.length === 0) return [required(`endpoints[${at}].addresses`, ': must contain at least 1 address')];
      return addresses.flatMap((address, index) =>
        addressProblems(String(address), { addressType, field: `endpoints[${at}].addresses`, index }),
      );
    });
  },
  events: ({ metadata, involvedObject }) => {
    const about = isFields(involvedObject) ? (involvedObject.namespace ?? 'default') : 'default';
    if (about === metadata.namespace) return [];
    const message = `Invalid value: ${JSON.stringify(about)}: does not match event.namespace`;
    return [{ field: 'involvedObject.namespace', reason: 'FieldValueInvalid', message }];
  },
};

function addressProblems(
  address: string,
  { addressType, field, index }: { addressType: unknown; field: string; index: number },
): FieldProblem[] {
  if ((addressType !== 'IPv4' && addressType !== 'IPv6') || (addressType === 'IPv4' ? ipv4 : ipv6).test(address)) return [];
  const value = `Invalid value: ${JSON.stringify(address)}`;
  if (ipv4.test(address) || ipv6.test(address))
    return [{ field, reason: 'FieldValueInvalid', message: `${value}: must be an ${addressType} address` }];
  const message = `${value}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`;
  return [{ field: `${field}[${index}]`, reason: 'FieldValueInvalid', message }];
}

function metadataProblems({ plural }: Resource, { metadata }: StoredObject): FieldProblem[] {
  const { name, labels = {} } = metadata;
  const problems: FieldProblem[] = [];
  const nameIs = (rule: string): void => {
    problems.push({ field: 'metadata.name', reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(name)}: ${rule}` });
  };
  if (name === '') problems.push(required('metadata.name', ': name or generateName is required'));
  else if (!subdomain.test(name)) nameIs(subdomainRule);
  else if (plural === 'namespaces' && name.includes('.')) nameIs('must not contain dots');
  else if (name.length > (plural === 'namespaces' || plural === 'services' ? 63 : 253)) nameIs('must be no more than 253 characters');
  for (const value of Object.values(labels)) {
    if (labelValue.test(value) && value.length <= 63) continue;
    const message = `Invalid value: ${JSON.stringify(value)}: ${labelRule}`;
    problems.push({ field: 'metadata.labels', reason: 'FieldValueInvalid', message });
  }
  return problems;
}

/** What of a Pod's spec may not change. */
function fixedSpec(spec: Fields | undefined): unknown {
  const { activeDeadlineSeconds: _deadline, tolerations: _tolerations, terminationGracePeriodSeconds: _grace, ...rest } = spec ?? {};
  const withoutImages = (containers: unknown): unknown => list(containers).map(({ image: _image, ...fixed }) => inOneOrder(fixed));
  return inOneOrder({ ...rest, containers: withoutImages(rest.containers), initContainers: withoutImages(rest.initContainers) });
}

/** The same value with every object's fields in one order and without absent ones, so that equal objects have equal JSON. */
export function inOneOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOneOrder);
  if (!isFields(value)) return value;
  const fields = Object.entries(value).filter(([, part]) => part !== undefined);
  return Object.fromEntries(fields.sort(([a], [b]) => (a < b ? -1 : 1)).map(([field, part]) => [field, inOneOrder(part)]));
}

function required(field: string, why = ''): FieldProblem {
  return { field, reason: 'FieldValueRequired', message: `Required value${why}` };
}

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.filter(isFields) : [];
}

function textBytes(part: unknown): number {
  return isFields(part) ? Object.values(part).reduce<number>((sum, text) => sum + Buffer.byteLength(String(text)), 0) : 0;
}
