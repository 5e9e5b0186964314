/** The limit for connections. It leaves enough of the descriptors of this process for files. */
import { readFileSync } from 'node:fs';
import type { Logger } from '../../shared/log.ts';

/** The pools of Envoys need hundreds. */
const maxConnections = 50_000;
/** With fewer connections, a large cluster can reach the limit. */
const enoughConnections = 4_096;
/** Descriptors for uploads, background work and the runtime. */
const otherFiles = 1_024;

/** `openFiles`: descriptors that the store keeps open. Logs a warning if the limit is low. */
export function connectionLimit(openFiles: number, log: Logger, limits = readFileSync('/proc/self/limits', 'utf8')): number {
  const descriptors = parseOpenFileLimit(limits);
  const connections = Math.max(1, Math.min(maxConnections, descriptors - openFiles - otherFiles));
  if (connections < enoughConnections) {
    log.warn(
      { descriptors, openFiles, connections },
      'the limit for open files leaves few connections: raise it, or lower KURA_CACHE_OPEN_FILES',
    );
  }
  return connections;
}

/** The soft limit in the text of `/proc/self/limits` (proc(5)); Infinity without a limit. Node raises the soft limit at its start. */
function parseOpenFileLimit(text: string): number {
  const soft = /^Max open files\s+(\S+)/m.exec(text)?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}
