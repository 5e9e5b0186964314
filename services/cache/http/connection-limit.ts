/** Divides the descriptors of this process into connections and files. */
import { readFileSync } from 'node:fs';
import type { Logger } from '../../shared/log.ts';

/** The pools of Envoys need hundreds. */
const maxConnections = 50_000;
/** With fewer connections, a large cluster can reach the limit. */
const enoughConnections = 4_096;
/** Descriptors for uploads, background work and the runtime. */
const otherFiles = 1_024;

interface DescriptorLimits {
  /** Descriptors that the store keeps open: at most a quarter of all. */
  readonly openFiles: number;
  readonly connections: number;
}

/** Divides the descriptors of this process. `openFiles`: the most that the store may keep. Logs a warning if the limit is low. */
export function divideDescriptors(openFiles: number, log: Logger, limits = readFileSync('/proc/self/limits', 'utf8')): DescriptorLimits {
  const descriptors = parseOpenFileLimit(limits);
  const kept = Math.min(openFiles, Math.floor(descriptors / 4));
  const connections = Math.max(1, Math.min(maxConnections, descriptors - kept - otherFiles));
  if (connections < enoughConnections) {
    log.warn({ descriptors, openFiles: kept, connections }, 'the limit for open files leaves few connections; raise the limit');
  }
  return { openFiles: kept, connections };
}

/** The soft limit in the text of `/proc/self/limits` (proc(5)); Infinity without a limit. Node raises the soft limit at its start. */
function parseOpenFileLimit(text: string): number {
  const soft = /^Max open files\s+(\S+)/m.exec(text)?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}
