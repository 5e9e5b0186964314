/** Metrics that each scrape reads from plain numbers. */
import { Counter, Gauge, type Registry } from 'prom-client';

export function registerGauge(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Gauge({
      name,
      help,
      registers: [],
      collect() {
        this.set(read());
      },
    }),
  );
}

export function registerTotal(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Counter({
      name,
      help,
      registers: [],
      collect() {
        this.reset();
        this.inc(read());
      },
    }),
  );
}

/** Registers series with one label. Each scrape reads their label values and numbers. */
export function registerSeries(
  registry: Registry,
  { type, name, help, label }: { type: 'gauge' | 'counter'; name: string; help: string; label: string },
  read: () => Iterable<readonly [value: string, number: number]>,
): void {
  const collect = () => {
    metric.reset();
    for (const [value, number] of read()) metric.inc({ [label]: value }, number);
  };
  const options = { name, help, labelNames: [label], registers: [], collect };
  const metric: Gauge | Counter = type === 'gauge' ? new Gauge(options) : new Counter(options);
  registry.registerMetric(metric);
}

/** The result of `read`, once for all metrics of a scrape: they are collected in one turn of the event loop. */
export function oncePerScrape<Result extends object>(read: () => Result): () => Result {
  let result: Result | undefined;
  return () => {
    if (result === undefined) setImmediate(() => (result = undefined));
    result ??= read();
    return result;
  };
}

/** Registers a counter with one label. `counts` has a number for each label value. Every scrape reads the same object. */
export function registerTotals(
  registry: Registry,
  names: { name: string; help: string; label: string },
  counts: Readonly<Record<string, number>>,
): void {
  registerSeries(registry, { type: 'counter', ...names }, () => Object.entries(counts));
}
