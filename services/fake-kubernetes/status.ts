/** Pure: the `Status` objects that the Kubernetes API answers failures with. */
import type { Resource } from './resources.ts';

interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field?: string;
}

interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

/** A request that is refused, with all that its `Status` says. */
export class ApiError extends Error {
  readonly code: number;
  /** Absent where the real API gives none: a fault that it did not foresee. */
  readonly reason: string | undefined;
  readonly details: StatusDetails | undefined;
  /** Of the Status's metadata; only a list that cannot go on has one. */
  readonly continue: string | undefined;

  constructor(status: { code: number; reason?: string; message: string; details?: StatusDetails; continue?: string }) {
    super(status.message);
    this.code = status.code;
    this.reason = status.reason;
    this.details = status.details;
    this.continue = status.continue;
  }

  toStatus(): object {
    const { code, reason, message, details } = this;
    const metadata = this.continue === undefined ? {} : { continue: this.continue };
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata,
      status: 'Failure',
      message,
      ...(reason === undefined ? {} : { reason }),
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

export function success(details?: StatusDetails, code?: number): object {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    ...(details === undefined ? {} : { details }),
    ...(code === undefined ? {} : { code }),
  };
}

/** `pods` or `endpointslices.discovery.k8s.io`, as messages name a resource. */
function qualified({ plural, group }: Resource): string {
  return group === '' ? plural : `${plural}.${group}`;
}

export function detailsOf({ plural, group }: Resource, name: string): StatusDetails {
  return { ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), kind: plural };
}

export function notFound(resource: Resource, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" not found`;
  return new ApiError({ code: 404, reason: 'NotFound', message, details: detailsOf(resource, name) });
}

export function alreadyExists(resource: Resource, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" already exists`;
  return new ApiError({ code: 409, reason: 'AlreadyExists', message, details: detailsOf(resource, name) });
}

export function terminating(resource: Resource, { namespace, name }: { namespace: string; name: string }): ApiError {
  const message = `${qualified(resource)} "${name}" is forbidden: unable to create new content in namespace ${namespace} because it is being terminated`;
  const cause = { reason: 'NamespaceTerminating', message: `namespace ${namespace} is being terminated`, field: 'metadata.namespace' };
  return new ApiError({ code: 403, reason: 'Forbidden', message, details: { ...detailsOf(resource, name), causes: [cause] } });
}

export function conflict(
  resource: Resource,
  name: string,
  why = 'the object has been modified; please apply your changes to the latest version and try again',
): ApiError {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`;
  return new ApiError({ code: 409, reason: 'Conflict', message, details: detailsOf(resource, name) });
}

/** One thing that is wrong with a field: `reason` as in `FieldValueRequired`, the message without the field's name. */
export interface FieldProblem {
  readonly field: string;
  readonly reason: 'FieldValueRequired' | 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueTooLong' | 'FieldValueNotSupported';
  readonly message: string;
}

/** `kind` is qualified by its group where it has one. */
export function invalid({ kind, group }: { kind: string; group: string }, name: string, problems: readonly FieldProblem[]): ApiError {
  const texts = problems.map(({ field, message }) => `${field}: ${message}`);
  const message = `${kind}${group === '' ? '' : `.${group}`} "${name}" is invalid: ${texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`}`;
  const causes = problems.map(({ reason, message: text, field }) => ({ reason, message: text, field }));
  const details = { ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), kind, causes };
  return new ApiError({ code: 422, reason: 'Invalid', message, details });
}

export function badRequest(message: string): ApiError {
  return new ApiError({ code: 400, reason: 'BadRequest', message });
}

export function unauthorized(): ApiError {
  return new ApiError({ code: 401, reason: 'Unauthorized', message: 'Unauthorized' });
}

export function pathNotFound(): ApiError {
  return new ApiError({ code: 404, reason: 'NotFound', message: 'the server could not find the requested resource', details: {} });
}

export function methodNotAllowed(): ApiError {
  const message = 'the server does not allow this method on the requested resource';
  return new ApiError({ code: 405, reason: 'MethodNotAllowed', message, details: {} });
}

export function expired({ asked, oldest }: { asked: number; oldest: number }): ApiError {
  return new ApiError({ code: 410, reason: 'Expired', message: `too old resource version: ${asked} (${oldest})` });
}

/** What a list from the future is answered with; a watch from there is accepted silently, by the real API too. */
export function tooLargeResourceVersion({ asked, current }: { asked: number; current: number }): ApiError {
  const causes = [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }];
  const message = `Timeout: Too large resource version: ${asked}, current: ${current}`;
  return new ApiError({ code: 504, reason: 'Timeout', message, details: { causes, retryAfterSeconds: 1 } });
}

export function tooManyRequests(message: string): ApiError {
  return new ApiError({ code: 429, reason: 'TooManyRequests', message, details: { retryAfterSeconds: 1 } });
}

export function tooLarge(limitBytes: number): ApiError {
  return new ApiError({ code: 413, reason: 'RequestEntityTooLarge', message: `Request entity too large: limit is ${limitBytes}` });
}
