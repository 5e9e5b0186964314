/** A shard process, or with KURA_CACHE_SHARDS above 1 (or KURA_CACHE_DIRECTORIES) the parent of several. */
import { readSettings, SettingsError } from '../shared/environment.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { settingPrefix, settings } from './config.ts';
import { planShards, startShards } from './pod.ts';
import { startShard } from './shard.ts';

// Before the first file is touched: four threads, Node's own number, leave a fast disk idle (1.28 against 2.06 GB/s cold).
process.env.UV_THREADPOOL_SIZE ??= '32';

await runService('cache', async () => {
  const config = readSettings(settingPrefix, settings, process.env);
  const log = createLogger({ service: 'cache', level: config.logLevel });
  const { directory } = config;
  if (config.shards === 1 && config.directories === undefined) {
    if (directory === undefined) throw new SettingsError('KURA_CACHE_DIRECTORY must be set: the directory that holds the objects.');
    return { running: await startShard({ ...config, directory }, log), log };
  }
  const environment = { ...process.env };
  for (const name of ['SHARDS', 'DIRECTORIES', 'POD_LISTEN']) delete environment[settingPrefix + name];
  const plans = planShards(config);
  const stopMs = config.drain + config.grace;
  return {
    running: await startShards({ plans, program: import.meta.filename, environment, healthAddress: config.podListen, stopMs, log }),
    log,
  };
});
