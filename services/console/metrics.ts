/** The metrics of the console. */
import { Counter, Gauge, type Registry } from 'prom-client';

export interface Metrics {
  readonly rounds: Counter;
}

interface MetricSources {
  /** Parts that answered the last request, and those that did not. */
  readonly answers: () => { readonly answering: number; readonly silent: number };
}

export function createMetrics(registry: Registry, { answers }: MetricSources): Metrics {
  const registers = [registry];
  new Gauge({
    name: 'kura_console_parts',
    help: 'Parts of kura, shards included, by whether they answered the last request of the console.',
    labelNames: ['answers'],
    registers,
    collect() {
      const { answering, silent } = answers();
      this.set({ answers: 'yes' }, answering);
      this.set({ answers: 'no' }, silent);
    },
  });
  return {
    rounds: new Counter({
      name: 'kura_console_rounds_total',
      help: 'Rounds in which the console read the metrics of all parts.',
      registers,
    }),
  };
}
