/** A shard with Node's HTTP parser: the baseline for kura's parser in shard.ts. It has the settings of services/cache/main.ts. */

import { settingPrefix, settings } from '../../services/cache/config.ts';
import { startShard } from '../../services/cache/shard.ts';
import { readSettings } from '../../services/shared/environment.ts';
import { runService } from '../../services/shared/lifecycle.ts';
import { createLogger } from '../../services/shared/log.ts';

process.env.UV_THREADPOOL_SIZE ??= '32';

await runService('cache', async () => {
  const config = readSettings(settingPrefix, settings, process.env);
  const log = createLogger({ service: 'cache', level: config.logLevel });
  const { directory } = config;
  if (directory === undefined) throw new Error('KURA_CACHE_DIRECTORY must be set');
  return { running: await startShard({ ...config, directory }, log, { parser: 'node' }), log };
});
