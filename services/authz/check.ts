/** Envoy's question (ext_authz `Check`) and its answer: the edge between gRPC, HTTP status codes and decisions. */
import { status as grpcStatus, type Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import type { HeaderValueOption } from '../../proto/generated/envoy/config/core/v3/HeaderValueOption.ts';
import type { CheckRequest__Output } from '../../proto/generated/envoy/service/auth/v3/CheckRequest.ts';
import type { CheckResponse } from '../../proto/generated/envoy/service/auth/v3/CheckResponse.ts';
import type { StatusCode } from '../../proto/generated/envoy/type/v3/StatusCode.ts';
import type { Value } from '../../proto/generated/google/protobuf/Value.ts';
import { loadEnvoyProtos } from '../../proto/load.ts';
import { maxKeyBytes } from '../shared/key.ts';
import type { Logger } from '../shared/log.ts';
import { problemBody, problemContentType } from '../shared/problem.ts';
import type { Decide, Decision, Question } from './decision.ts';
import type { Grant } from './policy/grant.ts';

interface Refusal {
  readonly status: number;
  readonly name: StatusCode;
  readonly code: string;
  readonly detail: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One Authorization line, one token: what a comma joined is two lines. */
const bearer = /^bearer +([\w~+/.=-]+)$/i;

/** Adds `Check` to the server. A fault of ours is a gRPC error, which Envoy answers with 503: never an allow. */
export function addCheck(server: Server, { decide, log }: { decide: Decide; log: Logger }): void {
  const { Check } = loadEnvoyProtos().envoy.service.auth.v3.Authorization.service;
  /** An allow with a grant says nothing that is not in the grant, and a remembered caller's grant is the same object each time: its bytes are kept with it. */
  const encodedAllows = new WeakMap<Grant, Buffer>();
  const encode = (decision: Decision): Buffer => {
    if (decision.kind !== 'allow') return Check.responseSerialize(deny(refusalOf(decision)));
    const { grant } = decision;
    const known = grant && encodedAllows.get(grant);
    if (known !== undefined) return known;
    const encoded = Check.responseSerialize(allow(decision));
    if (grant !== undefined) encodedAllows.set(grant, onItsOwn(encoded));
    return encoded;
  };
  const handle = ({ request }: ServerUnaryCall<CheckRequest__Output, Buffer>, callback: sendUnaryData<Buffer>): void => {
    decide(readQuestion(request))
      .then(encode)
      .then(
        (bytes) => callback(null, bytes),
        (error: unknown) => {
          log.error({ err: error }, 'unexpected fault in a check');
          callback({ code: grpcStatus.INTERNAL, details: 'unexpected fault' });
        },
      );
  };
  server.addService({ Check: { ...Check, responseSerialize: (bytes: Buffer) => bytes } }, { Check: handle });
}

/** A small Buffer is a piece of a shared one of 64 KiB, which would be kept whole with it. */
function onItsOwn(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** Envoy sends no `headers` at all when none of the allowed ones is there. */
function readQuestion({ attributes }: CheckRequest__Output): Question {
  const http = attributes?.request?.http;
  const headers = http?.headers ?? {};
  const length = headers['content-length'];
  return {
    method: http?.method ?? '',
    target: http?.path ?? '',
    token: bearer.exec(headers.authorization ?? '')?.[1],
    contentLength: length === undefined ? undefined : Number(length),
  };
}

function allow({ identity, maxObjectBytes, maxShare, grant, countsBytes }: Extract<Decision, { kind: 'allow' }>): CheckResponse {
  const headers = {
    'x-kura-namespace': identity.namespace,
    'x-kura-service-account': identity.serviceAccount,
    'x-kura-max-object-bytes': String(maxObjectBytes),
    ...(maxShare === undefined ? {} : { 'x-kura-max-share': String(maxShare) }),
    // What does not pass through Envoy is not counted.
    ...(countsBytes ? { 'x-kura-direct': 'no' } : {}),
  };
  return {
    status: { code: grpcStatus.OK },
    ok_response: {
      headers: setHeaders(headers),
      headers_to_remove: ['authorization'],
      // Tells grants.lua on the way back that there is a grant to keep.
      ...(grant === undefined ? {} : { response_headers_to_add: setHeaders({ 'x-kura-grant': '1' }) }),
    },
    dynamic_metadata: {
      fields: {
        ...(grant === undefined ? {} : { grant: toValue(grantForm(grant)) }),
        // Where it is set, the end of the transfer is told (transfers.ts).
        ...(countsBytes ? { counts_bytes: { boolValue: true } } : {}),
      },
    },
  };
}

/** The grant as Envoy's filter reads it (README, «The grant»). */
function grantForm({ namespace, serviceAccount, maxObjectBytes, maxShare, seconds, policy, allowed, denied }: Grant): object {
  return {
    namespace,
    service_account: serviceAccount,
    max_object_bytes: String(maxObjectBytes),
    ...(maxShare === undefined ? {} : { max_share: String(maxShare) }),
    seconds,
    policy,
    allowed,
    denied,
  };
}

function toValue(value: unknown): Value {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'number') return { numberValue: value };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  return { structValue: { fields: Object.fromEntries(Object.entries(value as object).map(([field, part]) => [field, toValue(part)])) } };
}

function deny({ status, name, code, detail, headers = {} }: Refusal): CheckResponse {
  return {
    status: { code: grpcStatus.PERMISSION_DENIED },
    denied_response: {
      status: { code: name },
      headers: setHeaders({ 'content-type': problemContentType, ...headers }),
      body: problemBody({ status, code, detail }),
    },
  };
}

function setHeaders(headers: Readonly<Record<string, string>>): HeaderValueOption[] {
  return Object.entries(headers).map(([key, value]) => ({ header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }));
}

function refusalOf(decision: Exclude<Decision, { kind: 'allow' }>): Refusal {
  switch (decision.kind) {
    case 'unauthenticated': {
      const headers = { 'www-authenticate': 'Bearer realm="kura", error="invalid_token"' };
      return { status: 401, name: 'Unauthorized', code: 'unauthenticated', detail: decision.reason, headers };
    }
    case 'forbidden':
      return { status: 403, name: 'Forbidden', code: 'forbidden', detail: decision.reason };
    case 'folder': {
      if (decision.answer === 'made')
        return { status: 201, name: 'Created', code: 'no-folders', detail: 'there are no folders: none is needed' };
      return { status: 404, name: 'NotFound', code: 'no-folders', detail: 'there are no folders' };
    }
    case 'bad-key': {
      const detail = `the key is not 1 to ${maxKeyBytes} bytes of printable ASCII without . and .. segments`;
      return { status: 400, name: 'BadRequest', code: 'bad-key', detail };
    }
    case 'no-such-path':
      return { status: 404, name: 'NotFound', code: 'no-such-path', detail: 'objects are under /objects/' };
    case 'bad-method': {
      const allow = decision.allowed.join(', ');
      return { status: 405, name: 'MethodNotAllowed', code: 'method-not-allowed', detail: `objects know ${allow}`, headers: { allow } };
    }
    case 'too-large': {
      const detail = `an object may have at most ${decision.maxObjectBytes} bytes here`;
      return { status: 413, name: 'PayloadTooLarge', code: 'too-large', detail };
    }
    case 'too-many-requests': {
      const { limit, perSecond, waitSeconds } = decision.excess;
      const detail = `${decision.identity.namespace} may have ${perSecond} ${limit === 'bytesPerSecond' ? 'bytes' : 'requests'} a second here`;
      const headers = { 'retry-after': String(Math.ceil(waitSeconds)) };
      return { status: 429, name: 'TooManyRequests', code: 'too-many-requests', detail, headers };
    }
    case 'unavailable':
      return {
        status: 503,
        name: 'ServiceUnavailable',
        code: 'identity-unavailable',
        detail: decision.reason,
        headers: { 'retry-after': '1' },
      };
    case 'no-policy': {
      const detail = 'no policy has been seen yet';
      return { status: 503, name: 'ServiceUnavailable', code: 'policy-unavailable', detail, headers: { 'retry-after': '1' } };
    }
    default:
      return decision satisfies never;
  }
}
