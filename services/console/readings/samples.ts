/** Pure: reads some metrics of a page in the text format of Prometheus. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const label = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export function readSamples(text: string, names: ReadonlySet<string>): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const name = /^\w+/.exec(line)?.[0];
    if (name === undefined || !names.has(name)) continue;
    const end = line.lastIndexOf(' ');
    const labels = Object.fromEntries([...line.slice(0, end).matchAll(label)].map(([, key = '', value = '']) => [key, unescaped(value)]));
    samples.push({ name, labels, value: Number(line.slice(end + 1)) });
  }
  return samples;
}

/** The version of a service of kura; undefined for another program. */
export function readVersion(text: string): string | undefined {
  return /^kura_build_info\{version="([^"]*)"\}/m.exec(text)?.[1];
}

/** When a process has started, in milliseconds since the epoch: a service of kura, or Envoy, which reports its age. */
export function readStart(text: string, now: number): number | undefined {
  const start = /^process_start_time_seconds (\S+)/m.exec(text)?.[1];
  if (start !== undefined) return Number(start) * 1_000;
  const age = /^envoy_server_uptime\{[^}]*\} (\d+)/m.exec(text)?.[1];
  return age === undefined ? undefined : now - Number(age) * 1_000;
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, '$1');
}
