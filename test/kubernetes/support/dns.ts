/** The cluster's DNS, as far as Pods of ours ask it: the ready addresses of headless Services. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { decode, encode } from 'dns-packet';

const cluster = 'cluster.local';
const ttlSeconds = 5;

/** What a kubelet writes into a Pod: short names are names of the Pod's own namespace. */
export function resolvConf({ server, namespace }: { server: string; namespace: string }): string {
  return `nameserver ${server}\nsearch ${namespace}.svc.${cluster} svc.${cluster} ${cluster}\noptions ndots:5\n`;
}

/** Answers for `<service>.<namespace>.svc.cluster.local`; every other name does not exist. Resolves with what stops it. */
export async function startDns({
  address,
  namespace,
  addresses,
}: {
  address: string;
  namespace: string;
  addresses: (service: string) => readonly string[];
}): Promise<() => Promise<void>> {
  const socket = createSocket('udp4');
  socket.on('message', (message, peer) => {
    const { id, questions = [] } = decode(message);
    const { name = '', type } = questions[0] ?? {};
    const [, service = ''] = new RegExp(`^([^.]+)\\.${namespace}\\.svc\\.${cluster}$`).exec(name) ?? [];
    const found = addresses(service);
    const answers = type === 'A' ? found.map((data) => ({ name, type: 'A' as const, ttl: ttlSeconds, data })) : [];
    const nameError = 3;
    socket.send(
      encode({ type: 'response', ...(id === undefined ? {} : { id }), flags: found.length === 0 ? nameError : 0, questions, answers }),
      peer.port,
      peer.address,
    );
  });
  socket.bind(53, address);
  await once(socket, 'listening');
  return async () => {
    socket.close();
    await once(socket, 'close');
  };
}
