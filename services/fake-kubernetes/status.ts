/** Pure: the `Status` objects of failed requests. https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
import type { Resource } from './resources.ts';

interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly object[];
  readonly retryAfterSeconds?: number;
}

/** A failed request, with the fields of its `Status`. */
export class ApiError extends Error {
  readonly code: number;
  /** Absent when the real API gives no reason, for an unexpected fault. */
  readonly reason: string | undefined;
  readonly details: StatusDetails | undefined;

  constructor({ code, reason, message, details }: { code: number; reason?: string; message: string; details?: StatusDetails }) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  toStatus(): object {
    const { code, reason, message, details } = this;
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, details, code };
  }
}

export function success(details: StatusDetails): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
}

export function detailsOf({ plural, group }: Resource, name: string): StatusDetails {
  return { name, ...(group === '' ? {} : { group }), kind: plural };
}

export function notFound(resource: Resource, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" not found`;
  return new ApiError({ code: 404, reason: 'NotFound', message, details: detailsOf(resource, name) });
}

export function alreadyExists(resource: Resource, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" already exists`;
  return new ApiError({ code: 409, reason: 'AlreadyExists', message, details: detailsOf(resource, name) });
}

export function conflict(resource: Resource, name: string, why: string): ApiError {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`;
  return new ApiError({ code: 409, reason: 'Conflict', message, details: detailsOf(resource, name) });
}

/** The problem with a field. The message does not contain the field's name. */
export interface FieldProblem {
  readonly field: string;
  readonly reason: 'FieldValueRequired' | 'FieldValueInvalid' | 'FieldValueTooLong';
  readonly message: string;
}

export function invalid({ kind, group }: { kind: string; group: string }, name: string, problem: FieldProblem): ApiError {
  const message = `${group === '' ? kind : `${kind}.${group}`} "${name}" is invalid: ${problem.field}: ${problem.message}`;
  const details = { ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), kind, causes: [problem] };
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

/** For requests that the real API serves and this one does not. An error is better than a wrong result. */
export function notServed(what: string): ApiError {
  return new ApiError({ code: 405, reason: 'MethodNotAllowed', message: `the fake Kubernetes API does not serve ${what}` });
}

export function unsupportedMediaType(message: string): ApiError {
  return new ApiError({ code: 415, reason: 'UnsupportedMediaType', message });
}

/** `forgotten` is the newest version whose changes are no longer kept. */
export function expired({ version, forgotten }: { version: number; forgotten: number }): ApiError {
  return new ApiError({ code: 410, reason: 'Expired', message: `too old resource version: ${version} (${forgotten})` });
}

export function tooManyRequests(message: string): ApiError {
  return new ApiError({ code: 429, reason: 'TooManyRequests', message, details: { retryAfterSeconds: 1 } });
}

export function tooLarge(maxBytes: number): ApiError {
  return new ApiError({ code: 413, reason: 'RequestEntityTooLarge', message: `Request entity too large: limit is ${maxBytes}` });
}

/** Such as `pods` or `endpointslices.discovery.k8s.io`, as messages name a resource. */
function qualified({ plural, group }: Resource): string {
  return group === '' ? plural : `${plural}.${group}`;
}
