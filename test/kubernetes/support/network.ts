/** The Pods' network: a bridge in this network namespace, which scripts/test-kubernetes.ts has made, and for each Pod a namespace of its own with one address. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);
const bridge = 'kura0';
/** Where the API server listens: what a Node's address is to the Pods. */
export const nodeAddress = '10.0.0.1';
let pods = 0;

export interface Sandbox {
  /** Never one that another Pod had before. */
  readonly address: string;
  readonly namespace: string;
  /** Drops, or lets through again, whatever comes and goes: a Node that is lost sends no RST. */
  setReachable(isReachable: boolean): Promise<void>;
  /** Ends the namespace; its processes must have ended. */
  close(): Promise<void>;
}

export async function makeBridge(): Promise<() => Promise<void>> {
  await ip('link', 'add', bridge, 'type', 'bridge');
  await ip('address', 'add', `${nodeAddress}/8`, 'dev', bridge);
  await ip('link', 'set', bridge, 'up');
  return () => ip('link', 'delete', bridge);
}

export async function makeSandbox(): Promise<Sandbox> {
  const number = pods++;
  const address = `10.1.${number >> 8}.${(number & 255) + 1}`;
  const link = `pod${number}`;
  const script = `ip link set lo up && ip link add eth0 type veth peer name ${link} netns ${process.pid} && ip address add ${address}/8 dev eth0 && ip link set eth0 up && echo ready && exec sleep infinity`;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'unshare', '--net', '--', 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const [said] = await Promise.race([once(child.stdout, 'data'), ended]);
  if (!String(said).includes('ready')) throw new Error(`no network for ${address}`);
  await ip('link', 'set', link, 'master', bridge, 'up');
  return {
    address,
    namespace: `/proc/${child.pid}/ns/net`,
    setReachable: (isReachable) => ip('link', 'set', link, isReachable ? 'up' : 'down'),
    close: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function ip(...args: readonly string[]): Promise<void> {
  await run('ip', args);
}
