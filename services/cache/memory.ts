/** How much memory may hold pages of files. */
import { readFileSync } from 'node:fs';

/** The smaller of what the container may use and what the machine has left, in bytes. */
export function availableMemory(): number {
  const meminfo = readText('/proc/meminfo');
  const available = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? 1024 * 1024) * 1024;
  // cgroup v2, then v1; "max" or a number near 2^63 means none.
  const limits = ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'].map((file) =>
    Number(readText(file).trim() || Number.NaN),
  );
  return Math.min(available, ...limits.filter((limit) => limit > 0));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
