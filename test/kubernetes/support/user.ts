import { readFileSync } from 'node:fs';

/** Real root can become another user; one who is root in a namespace of users alone stays who it is. */
export const canBecomeOthers =
  process.getuid?.() === 0 && Number(readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/)[2]) > 65_535;
