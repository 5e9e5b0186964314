/** gRPC's own xDS client (ADS, state of the world), written by others from the same specification. */

import { Watcher, XdsClient } from '@grpc/grpc-js-xds/build/src/xds-client.js';
import { EndpointResourceType } from '@grpc/grpc-js-xds/build/src/xds-resource-type/endpoint-resource-type.js';
import type { ExecutionContext } from 'ava';
import { tableOf } from './client.ts';

interface XdsFollower {
  /** hash_key → health as last reported; undefined before the first report. */
  table(): Record<string, string> | undefined;
  readonly faults: readonly string[];
}

export function followByGrpc(t: ExecutionContext, address: string): XdsFollower {
  const client = new XdsClient({
    xdsServers: [{ server_uri: address, channel_creds: [{ type: 'insecure' }], server_features: [] }],
    node: { id: 'grpc', locality: { zone: 'a' } },
    authorities: {},
    clientDefaultListenerResourceNameTemplate: '%s',
    serverListenerResourceNameTemplate: null,
    certificateProviders: {},
  });
  let table: Record<string, string> | undefined;
  const faults: string[] = [];
  const watcher = new Watcher<Parameters<typeof tableOf>[0]>({
    onResourceChanged: (assignment) => {
      table = tableOf(assignment);
    },
    onError: ({ details }) => faults.push(details),
    onResourceDoesNotExist: () => faults.push('does not exist'),
  });
  EndpointResourceType.startWatch(client, 'kura-cache', watcher as never);
  t.teardown(() => EndpointResourceType.cancelWatch(client, 'kura-cache', watcher as never));
  return { table: () => table, faults };
}
