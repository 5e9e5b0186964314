/** A shard process. */
import { readSettings, SettingsError } from '../shared/environment.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { settingPrefix, settings } from './config.ts';
import { startShard } from './shard.ts';

// Before the first file is touched: four threads, Node's own number, leave a fast disk idle (1.28 against 2.06 GB/s cold, decisions.md).
process.env.UV_THREADPOOL_SIZE ??= '32';

await runService(async () => {
  const config = readSettings(settingPrefix, settings, process.env);
  const { directory } = config;
  if (directory === undefined) throw new SettingsError('KURA_CACHE_DIRECTORY must be set: the directory that holds the objects.');
  const log = createLogger({ service: 'cache', level: config.logLevel });
  return { running: await startShard({ ...config, directory }, log), log };
});
