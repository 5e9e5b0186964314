/** origin: fetches for shards the objects that the cache misses. It alone holds the credentials of storage. */
import path from 'node:path';
import { type Closer, startWithCloser } from '../shared/closer.ts';
import { openCredentials } from '../shared/credential-file.ts';
import { DocumentSource } from '../shared/document-source.ts';
import { readSettings, type Settings } from '../shared/environment.ts';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger, type Logger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { compileOrigins, type Origin } from '../shared/origins.ts';
import { Admission } from './admission.ts';
import { settings } from './config.ts';
import { FaultLog } from './fault-log.ts';
import { startOriginServer } from './http.ts';
import { Metrics } from './metrics.ts';
import { OpenOrigins } from './open-origins.ts';
import { FillClient } from './prefetch/fill-client.ts';
import { startPrefetchServer } from './prefetch/http.ts';
import { Jobs } from './prefetch/jobs.ts';
import { FileSource } from './sources/file-source.ts';
import { HttpSource } from './sources/http-source.ts';
import type { ObjectSource } from './sources/object-source.ts';
import { OriginCredentials } from './sources/origin-credentials.ts';
import { S3Source } from './sources/s3-source.ts';

await runService('origin', async () => {
  const config = readSettings('KURA_ORIGIN_', settings, process.env);
  const log = createLogger({ service: 'origin', level: config.logLevel });
  return { log, running: await startWithCloser((closer) => start(config, log, closer)) };
});

async function start(config: Settings<typeof settings>, log: Logger, closer: Closer): Promise<Record<string, string>> {
  const kubernetes = connectKubernetes({ kubeconfig: config.kubeconfig });
  closer.add('Kubernetes client', () => kubernetes.close());
  const origins = new OpenOrigins({ openSource: (origin) => openSource(origin, config.secretsDirectory) });
  closer.add('origins', () => origins.close());
  const document = new DocumentSource<readonly Origin[]>({
    client: kubernetes,
    namespace: config.namespace,
    configMap: 'kura-origins',
    key: 'origins.yaml',
    what: 'origins document',
    component: 'kura-origin',
    compile: compileOrigins,
    summary: (value) => ({ origins: value.length }),
    lastGoodFile: config.originsFile,
    onChange: (value) => origins.replace(value),
    log,
  });
  closer.add('origins document', () => document.close());
  const credentials = openCredentials(config.credentialFile, log);
  closer.add('credentials', () => credentials.close());
  const registry = createRegistry();
  const metrics = new Metrics(registry, { origins, document });
  const metricsServer = await startMetricsServer({
    address: config.metricsListen,
    registry,
    notReady: () => (document.current === undefined ? document.complaint : undefined),
  });
  closer.add('metrics server', () => metricsServer.close());
  const faults = new FaultLog({ log, now: () => performance.now() });
  const shared = {
    origins,
    admission: new Admission({ keys: () => credentials.keys, now: Date.now }),
    isReady: () => document.current !== undefined,
    log,
  };
  const server = await startOriginServer({ ...shared, address: config.listen, drainMs: config.drain, metrics, faults });
  closer.add('server', () => server.close());
  const client = new FillClient({ url: config.fillUrl, maxConnections: config.maxFills, keys: () => credentials.keys, now: Date.now });
  closer.add('connections to shards', () => client.close());
  const jobs = new Jobs({ ...config, origins, client, metrics, faults, log });
  closer.add('prefetch jobs', () => jobs.close());
  const prefetchServer = await startPrefetchServer({ ...shared, address: config.prefetchListen, jobs });
  closer.add('server for prefetch jobs', () => prefetchServer.close());
  return { fetch: server.address, prefetch: prefetchServer.address, metrics: metricsServer.address };
}

function openSource(origin: Origin, secretsDirectory: string): ObjectSource {
  const credentials = new OriginCredentials({ folder: path.join(secretsDirectory, origin.name), now: Date.now });
  switch (origin.source.kind) {
    case 's3':
      return new S3Source(origin.source, origin, credentials);
    case 'http':
      return new HttpSource(origin.source, origin, credentials);
    case 'file':
      return new FileSource(origin.source);
  }
}
