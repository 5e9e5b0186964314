/** A bare xDS client over a real connection. It sends exactly what the test gives it, and asserts the protocol of each response itself. */
import { type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import type { ClusterLoadAssignment__Output } from '../../../proto/generated/envoy/config/endpoint/v3/ClusterLoadAssignment.ts';
import type { DeltaDiscoveryRequest } from '../../../proto/generated/envoy/service/discovery/v3/DeltaDiscoveryRequest.ts';
import type { DeltaDiscoveryResponse__Output } from '../../../proto/generated/envoy/service/discovery/v3/DeltaDiscoveryResponse.ts';
import type { DiscoveryRequest } from '../../../proto/generated/envoy/service/discovery/v3/DiscoveryRequest.ts';
import type { DiscoveryResponse__Output } from '../../../proto/generated/envoy/service/discovery/v3/DiscoveryResponse.ts';
import { waitFor } from '../../support/wait.ts';
import { protos } from './server.ts';

export const endpointType = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';
export const node = { id: 'envoy-1', locality: { zone: 'a' } };
export const name = 'kura-cache';

interface TestStream<Request, Response> {
  send(request: Request): void;
  /** The next response. Each is returned once. */
  next(): Promise<Response>;
  /** How many responses have arrived that `next` has not returned. */
  readonly waiting: () => number;
  /** Resolves with the status that ended the stream. */
  readonly ended: Promise<ServiceError>;
  readonly call: ClientDuplexStream<Request, Response>;
}

type FullStream = TestStream<DiscoveryRequest, DiscoveryResponse__Output>;
type DeltaStream = TestStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse__Output>;

interface TestClient {
  eds(): FullStream;
  deltaEds(): DeltaStream;
  ads(): FullStream;
  deltaAds(): DeltaStream;
  close(): void;
}

/** A client with a connection of its own. */
export function connectClient(t: ExecutionContext, address: string): TestClient {
  const options = { 'grpc.use_local_subchannel_pool': 1 };
  const eds = new protos.service.endpoint.v3.EndpointDiscoveryService(address, credentials.createInsecure(), options);
  const ads = new protos.service.discovery.v3.AggregatedDiscoveryService(address, credentials.createInsecure(), options);
  const close = (): void => {
    eds.close();
    ads.close();
  };
  const calls: { cancel(): void }[] = [];
  t.teardown(() => {
    for (const call of calls) call.cancel();
    close();
  });
  const track = <Request extends AnyRequest, Response extends AnyResponse>(
    call: ClientDuplexStream<Request, Response>,
    defaultType?: string,
  ): TestStream<Request, Response> => {
    calls.push(call);
    return follow(t, call, defaultType);
  };
  return {
    eds: () => track(eds.StreamEndpoints() as never, endpointType) as unknown as FullStream,
    deltaEds: () => track(eds.DeltaEndpoints() as never, endpointType) as unknown as DeltaStream,
    ads: () => track(ads.StreamAggregatedResources() as never) as unknown as FullStream,
    deltaAds: () => track(ads.DeltaAggregatedResources() as never) as unknown as DeltaStream,
    close,
  };
}

interface AnyRequest {
  type_url?: string;
}

interface AnyResponse {
  type_url?: string;
  nonce?: string;
  version_info?: string;
  system_version_info?: string;
}

/** `defaultType` is the type of requests that name none. */
function follow<Request extends AnyRequest, Response extends AnyResponse>(
  t: ExecutionContext,
  call: ClientDuplexStream<Request, Response>,
  defaultType: string | undefined,
): TestStream<Request, Response> {
  const answers: Response[] = [];
  const askedTypes = new Set<string | undefined>();
  const lastNonces = new Map<string | undefined, string>();
  let failure: ServiceError | undefined;
  const check = ({ type_url: type, nonce = '', version_info, system_version_info }: Response): void => {
    t.true(askedTypes.has(type), `a response has a type that was asked for, not ${type}`);
    t.not(nonce, '', 'a response has a nonce');
    t.not(nonce, lastNonces.get(type), 'a nonce differs from the one before');
    lastNonces.set(type, nonce);
    // Other types have no resources here, and so no version.
    if (type === endpointType) t.truthy(version_info || system_version_info, 'a response has a version');
  };
  call.on('data', (answer: Response) => {
    check(answer);
    answers.push(answer);
  });
  const ended = new Promise<ServiceError>((resolve) => {
    call.on('error', (error: ServiceError) => {
      failure = error;
      resolve(error);
    });
  });
  return {
    call,
    ended,
    waiting: () => answers.length,
    send: (request) => {
      askedTypes.add(request.type_url || defaultType);
      call.write(request);
    },
    next: () =>
      waitFor(
        'a response',
        () => {
          if (answers.length === 0 && failure !== undefined) return Promise.reject(failure);
          return answers.shift();
        },
        { everyMs: 2 },
      ),
  };
}

/** The assignment inside a response. */
export function decode(resource: { value?: Buffer | Uint8Array | string } | null | undefined): ClusterLoadAssignment__Output {
  return protos.config.endpoint.v3.ClusterLoadAssignment.deserialize(Buffer.from(resource?.value as Buffer));
}

/** hash_key → health of the assignment. */
export function tableOf(assignment: ClusterLoadAssignment__Output): Record<string, string> {
  const table: Record<string, string> = {};
  for (const { lb_endpoints = [] } of assignment.endpoints ?? []) {
    for (const { metadata, health_status } of lb_endpoints) {
      table[String(metadata?.filter_metadata?.['envoy.lb']?.fields?.hash_key?.stringValue)] = String(health_status);
    }
  }
  return table;
}

export function ack(answer: { version_info?: string; nonce?: string }, more: DiscoveryRequest = {}): DiscoveryRequest {
  return { resource_names: [name], version_info: answer.version_info ?? '', response_nonce: answer.nonce ?? '', ...more };
}
