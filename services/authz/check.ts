/** Envoy's question (ext_authz `Check`) and its answer: the edge between gRPC, HTTP status codes and decisions. */
import { status as grpcStatus, type Metadata, type Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import type { HeaderValueOption } from '../../proto/generated/envoy/config/core/v3/HeaderValueOption.ts';
import type { CheckRequest__Output } from '../../proto/generated/envoy/service/auth/v3/CheckRequest.ts';
import type { CheckResponse } from '../../proto/generated/envoy/service/auth/v3/CheckResponse.ts';
import type { Value } from '../../proto/generated/google/protobuf/Value.ts';
import { loadEnvoyProtos } from '../../proto/load.ts';
import type { Logger } from '../shared/log.ts';
import { problemBody, problemContentType } from '../shared/problem.ts';
import { readRequestId, readTraceparent } from '../shared/trace-context.ts';
import type { Decide, Decision, Question } from './decision.ts';
import type { Grant } from './policy/grant.ts';
import { problemOf } from './problems.ts';

/** One Authorization line, one token: what a comma joined is two lines. */
const bearer = /^bearer +([\w~+/.=-]+)$/i;

/** Adds `Check` to the server. A fault of ours is a gRPC error, which Envoy answers with 503: never an allow. */
export function addCheck(server: Server, { decide, log }: { decide: Decide; log: Logger }): void {
  const { Check } = loadEnvoyProtos().envoy.service.auth.v3.Authorization.service;
  /** An allow with the terms of its grant says nothing that is not in the grant, and the signer returns the same grant object for a while: its bytes are kept with it. */
  const encodedAllows = new WeakMap<Grant, Buffer>();
  const encode = (decision: Decision): Buffer => {
    if (decision.kind !== 'allow') return Check.responseSerialize(deny(problemOf(decision)));
    const { grant } = decision;
    // The terms of a request with an origin are others.
    if (grant === undefined || grant.terms !== decision.terms) return Check.responseSerialize(allow(decision));
    const known = encodedAllows.get(grant);
    if (known !== undefined) return known;
    const encoded = Check.responseSerialize(allow(decision));
    encodedAllows.set(grant, onItsOwn(encoded));
    return encoded;
  };
  const handle = ({ request, metadata }: ServerUnaryCall<CheckRequest__Output, Buffer>, callback: sendUnaryData<Buffer>): void => {
    decide(readQuestion(request, metadata))
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
function readQuestion({ attributes }: CheckRequest__Output, metadata: Metadata): Question {
  const { http, time } = attributes?.request ?? {};
  const headers = http?.headers ?? {};
  const length = headers['content-length'];
  const requestId = readRequestId(headers['x-request-id']);
  return {
    method: http?.method ?? '',
    target: http?.path ?? '',
    token: bearer.exec(headers.authorization ?? '')?.[1],
    contentLength: length === undefined ? undefined : Number(length),
    receivedAt: time === undefined ? undefined : Number(time.seconds ?? 0) * 1000 + (time.nanos ?? 0) / 1e6,
    // Envoy makes both or none. Its own span for this check is in the metadata; the header of the client is not a parent.
    ...(requestId === undefined ? {} : { requestId, trace: readTraceparent(metadata.get('traceparent')[0]) }),
  };
}

function allow({ caller, terms, grant, countsBytes }: Extract<Decision, { kind: 'allow' }>): CheckResponse {
  return {
    status: { code: grpcStatus.OK },
    ok_response: {
      headers: setHeaders({ 'x-kura-caller': caller, 'x-kura-terms': terms }),
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
function grantForm({ caller, terms, seconds, policy, allowed, denied, through }: Grant): object {
  return { caller, terms, seconds, policy, allowed, denied, ...(through === undefined ? {} : { through }) };
}

function toValue(value: unknown): Value {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'number') return { numberValue: value };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  return { structValue: { fields: Object.fromEntries(Object.entries(value as object).map(([field, part]) => [field, toValue(part)])) } };
}

function deny({ status, code, detail, headers }: ReturnType<typeof problemOf>): CheckResponse {
  return {
    status: { code: grpcStatus.PERMISSION_DENIED },
    denied_response: {
      status: { code: status },
      headers: setHeaders({ 'content-type': problemContentType, ...headers }),
      body: problemBody({ status, code, detail }),
    },
  };
}

function setHeaders(headers: Readonly<Record<string, string>>): HeaderValueOption[] {
  return Object.entries(headers).map(([key, value]) => ({ header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }));
}
