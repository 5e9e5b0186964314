/** The fetches of objects from origins. */
import type { Registry } from 'prom-client';
import { registerGauge, registerTotal, registerTotals } from './register.ts';

/** The numbers of `Fills`. */
export interface FillNumbers {
  readonly results: Readonly<Record<string, number>>;
  readonly rejected: number;
  readonly receivedBytes: number;
  readonly waiters: number;
  readonly bounds: { readonly fills: number; readonly bytes: number };
}

export function registerFills(registry: Registry, fills: FillNumbers): void {
  const gauge = (name: string, help: string, read: () => number) => registerGauge(registry, name, help, read);
  registerTotals(
    registry,
    {
      name: 'kura_cache_fills_total',
      help: 'Fills by result. `alone`: the shard does not store the object. `not-kept`: a PUT or DELETE came in between.',
      label: 'result',
    },
    fills.results,
  );
  registerTotal(
    registry,
    'kura_cache_fills_rejected_total',
    'Requests under /through/ that a bound of the fills has rejected.',
    () => fills.rejected,
  );
  registerTotal(registry, 'kura_cache_filled_bytes_total', 'Body bytes received from origins.', () => fills.receivedBytes);
  gauge('kura_cache_fills_in_flight', 'Requests that are open at the origin service.', () => fills.bounds.fills);
  gauge('kura_cache_fill_bytes_in_flight', 'Length of the objects that are being fetched.', () => fills.bounds.bytes);
  gauge('kura_cache_fill_waiters', 'Requests that wait for a fill or read its file.', () => fills.waiters);
}
