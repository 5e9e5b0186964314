/** The operators' bootstrap in the real Envoy, between an authz whose decisions a test makes and a shard that only records what it gets. */
import { Agent, request } from 'node:http';
import { request as requestTls, Agent as TlsAgent } from 'node:https';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Document } from 'yaml';
import { addCheck } from '../../../services/authz/check.ts';
import type { Decide, Decision, Question } from '../../../services/authz/decision.ts';
import { addTransfers } from '../../../services/authz/rate-limit/transfers.ts';
import { namedEntry } from '../../../services/local/bootstrap.ts';
import { startGrpcServer } from '../../../services/shared/grpc.ts';
import { createLogger } from '../../../services/shared/log.ts';
import { startBootstrapEnvoy } from '../../support/bootstrap-envoy.ts';
import { type Recorder, startRecorder } from '../../support/recorder.ts';
import { temporaryFolder } from '../../support/service.ts';
import { waitFor } from '../../support/wait.ts';
import { tokenOf } from './decisions.ts';

export interface Rig {
  /** What authz was asked. */
  readonly asked: Question[];
  /** What authz says. */
  decide: (question: Question) => Decision | Promise<Decision>;
  /** Bytes of which Envoy told authz, by namespace. */
  readonly transferred: Map<string, number>;
  readonly recorder: Recorder;
  readonly pid: number;
  /** Envoy's port for clients. */
  readonly port: number;
  readonly metricsPort: number;
  /** Its access log. */
  readonly accessLog: () => Record<string, unknown>[];
  /** One request on a kept connection, with the token of `tokenOf(token)` or another `authorization`, which may be several lines. */
  call(request: {
    method?: string;
    key?: string;
    /** `/objects/` unless named. */
    prefix?: string;
    /** `caller` unless named. */
    token?: string;
    /** Null for none. */
    authorization?: string | readonly string[] | null;
    headers?: Record<string, string>;
    /** A body of two bytes that takes so long. */
    bodyMs?: number;
  }): Promise<number>;
}

interface RigOptions {
  /** Changes the bootstrap as an operator would. */
  readonly edit?: (bootstrap: Document) => void;
  /** PEM: clients speak TLS with an Envoy that this CA knows. */
  readonly authority?: string;
}

export async function startRig(t: ExecutionContext, { edit, authority }: RigOptions = {}): Promise<Rig> {
  const folder = await temporaryFolder(t);
  const recorder = await startRecorder();
  t.teardown(() => recorder.close());
  const asked: Question[] = [];
  const socket = path.join(folder, 'authz.sock');
  const decide: Decide = async (question) => {
    asked.push(question);
    return rig.decide(question);
  };
  const log = createLogger({ service: 'authz', level: 'error' });
  const transferred: Rig['transferred'] = new Map();
  const authz = await startGrpcServer({
    target: `unix:${socket}`,
    graceMs: 0,
    register: (server) => {
      addCheck(server, { decide, log });
      addTransfers(server, { transferred: (name, bytes) => transferred.set(name, (transferred.get(name) ?? 0) + bytes) });
    },
  });
  t.teardown(() => authz.close());
  const { child, ports, printed, stop } = await startBootstrapEnvoy({
    folder,
    authzSocket: socket,
    edsPort: undefined,
    edit: (bootstrap) => {
      setShard(bootstrap, recorder.port);
      edit?.(bootstrap);
    },
  });
  t.teardown(stop);
  const kept = { keepAlive: true, maxSockets: 32 };
  const agent = authority === undefined ? new Agent(kept) : new TlsAgent({ ...kept, ca: authority });
  const send = authority === undefined ? request : requestTls;
  t.teardown(() => agent.destroy());
  const call: Rig['call'] = ({
    method = 'GET',
    key = 'vision/x',
    prefix = '/objects/',
    token = 'caller',
    authorization,
    headers = {},
    bodyMs,
  }) =>
    new Promise((resolve, reject) => {
      const outgoing = send(`http${authority === undefined ? '' : 's'}://127.0.0.1:${ports.objects}`, {
        agent,
        method,
        path: prefix + key,
        headers: {
          ...headers,
          ...(authorization === null ? {} : { authorization: (authorization ?? `Bearer ${tokenOf(token)}`) as string }),
        },
      });
      outgoing.on('error', reject);
      outgoing.on('response', (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode as number));
      });
      if (bodyMs === undefined) outgoing.end();
      else {
        outgoing.write('a');
        setTimeout(() => outgoing.end('b'), bodyMs);
      }
    });
  const accessLog = (): Record<string, unknown>[] =>
    printed.accessLog
      .slice(0, printed.accessLog.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const rig: Rig = {
    asked,
    decide: () => ({ kind: 'no-policy' }),
    transferred,
    recorder,
    pid: child.pid as number,
    port: ports.objects,
    metricsPort: ports.metrics,
    accessLog,
    call,
  };
  await waitFor('Envoy serves', async () => {
    if (child.exitCode !== null) throw new Error(printed.errors);
    const answer = await fetch(`http://127.0.0.1:${ports.admin}/ready`, { signal: AbortSignal.timeout(2_000) });
    return answer.ok && (await call({})) === 503;
  });
  asked.length = 0;
  return rig;
}

/** The cluster of the shards with one fixed address, instead of what eds tells. */
export function setShard(bootstrap: Document, port: number): void {
  const cache = namedEntry(bootstrap, ['static_resources', 'clusters'], 'kura-cache');
  cache.delete('eds_cluster_config');
  cache.delete('health_checks');
  cache.set('type', 'STATIC');
  const address = { socket_address: { address: '127.0.0.1', port_value: port } };
  cache.set(
    'load_assignment',
    bootstrap.createNode({ cluster_name: 'kura-cache', endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }),
  );
}
