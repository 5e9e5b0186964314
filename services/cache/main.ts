/** The process of one shard. With KURA_CACHE_SHARDS above 1, or with KURA_CACHE_DIRECTORIES, it is the parent of several shards. */
import { readSettings, SettingsError } from '../shared/environment.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { settingPrefix, settings } from './config.ts';
import { planShards, startShards } from './pod.ts';
import { startShard } from './shard.ts';

// Set before the first file call. Node's default of 4 threads leaves a fast disk idle: 1.28 GB/s instead of 2.06 GB/s for cold reads.
process.env.UV_THREADPOOL_SIZE ??= '32';

await runService('cache', async () => {
  const config = readSettings(settingPrefix, settings, process.env);
  const log = createLogger({ service: 'cache', level: config.logLevel });
  const { directory } = config;
  if (config.shards === 1 && config.directories === undefined) {
    if (directory === undefined) throw new SettingsError('KURA_CACHE_DIRECTORY is not set; set it to the directory of the objects');
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
