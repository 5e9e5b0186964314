/** Pure: the `Status` objects that the Kubernetes API answers failures with. */
import type { Resource } from './resources.ts';

export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: object | undefined;

  constructor({ code, reason, message, details }: { code: number; reason: string; message: string; details?: object }) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  toStatus(): object {
    const { code, reason, message, details } = this;
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

/** `pods` or `endpointslices.discovery.k8s.io`, as messages name a resource. */
function qualified({ plural, group }: Resource): string {
  return group === '' ? plural : `${plural}.${group}`;
}

function detailsOf({ plural, group }: Resource, name: string): object {
  return { name, ...(group === '' ? {} : { group }), kind: plural };
}

export function notFound(resource: Resource, name: string): ApiError {
  return new ApiError({
    code: 404,
    reason: 'NotFound',
    message: `${qualified(resource)} "${name}" not found`,
    details: detailsOf(resource, name),
  });
}

export function alreadyExists(resource: Resource, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" already exists`;
  return new ApiError({ code: 409, reason: 'AlreadyExists', message, details: detailsOf(resource, name) });
}

export function conflict(resource: Resource, name: string): ApiError {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": the object has been modified; please apply your changes to the latest version and try again`;
  return new ApiError({ code: 409, reason: 'Conflict', message, details: detailsOf(resource, name) });
}

export function invalid(resource: Resource, name: string, problem: string): ApiError {
  const message = `${resource.kind}${resource.group === '' ? '' : `.${resource.group}`} "${name}" is invalid: ${problem}`;
  return new ApiError({ code: 422, reason: 'Invalid', message, details: detailsOf(resource, name) });
}

export function badRequest(message: string): ApiError {
  return new ApiError({ code: 400, reason: 'BadRequest', message });
}

export function unauthorized(): ApiError {
  return new ApiError({ code: 401, reason: 'Unauthorized', message: 'Unauthorized' });
}

export function pathNotFound(): ApiError {
  return new ApiError({ code: 404, reason: 'NotFound', message: 'the server could not find the requested resource' });
}

export function methodNotAllowed(): ApiError {
  return new ApiError({
    code: 405,
    reason: 'MethodNotAllowed',
    message: 'the server does not allow this method on the requested resource',
  });
}

export function expired({ asked, oldest }: { asked: number; oldest: number }): ApiError {
  return new ApiError({ code: 410, reason: 'Expired', message: `too old resource version: ${asked} (${oldest})` });
}

/** What a list from the future is answered with; a watch from there is accepted silently, by the real API too. */
export function tooLargeResourceVersion({ asked, current }: { asked: number; current: number }): ApiError {
  const cause = { reason: 'ResourceVersionTooLarge', message: 'Too large resource version' };
  const message = `Timeout: Too large resource version: ${asked}, current: ${current}`;
  return new ApiError({ code: 504, reason: 'Timeout', message, details: { causes: [cause], retryAfterSeconds: 1 } });
}
