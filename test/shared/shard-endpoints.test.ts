import test from 'ava';
import { readSlices } from '../../services/shared/shard-endpoints.ts';

test('the metrics port is the object port + 100, unless the slice names another port', (t) => {
  const read = (ports: { name: string; port: number }[]) =>
    readSlices([{ addressType: 'IPv4', metadata: {}, endpoints: [{ addresses: ['10.0.0.1'], targetRef: { name: 'p' } }], ports }], {
      identity: 'pod',
      podOf: () => undefined,
    }).candidates.map(({ metricsPort }) => metricsPort);
  const shards = [
    { name: 'shard-0', port: 7000 },
    { name: 'shard-1', port: 7001 },
  ];
  t.deepEqual(read(shards), [7100, 7101]);
  t.deepEqual(read([...shards, { name: 'metrics-1', port: 9 }]), [7100, 9]);
});
