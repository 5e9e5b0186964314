/** The Pods' network: a bridge in this network namespace, which scripts/test-kubernetes.ts has made, and for each Pod a namespace of its own with one address. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** Drills that run side by side, each on a bridge of its own. */
const mostBridges = 8;
/** Numbers the links of this process. The kernel removes the link of a namespace some time after its end, so no name is used twice. */
let links = 0;

export interface Network {
  /** Of this side of the bridge: where the API server and the DNS listen. */
  readonly address: string;
  makeSandbox(): Promise<Sandbox>;
  close(): Promise<void>;
}

export interface Sandbox {
  /** Never one that another Pod had before. */
  readonly address: string;
  /** A file. */
  readonly namespace: string;
  /** Drops, or lets through again, whatever comes and goes: a Node that is lost sends no RST. */
  setReachable(isReachable: boolean): Promise<void>;
  /** Ends the namespace; its processes must have ended. */
  close(): Promise<void>;
}

export async function makeNetwork(): Promise<Network> {
  const number = await takeBridge();
  const bridge = `kura${number}`;
  const address = `10.${number}.0.1`;
  await ip('address', 'add', `${address}/16`, 'dev', bridge);
  await ip('link', 'set', bridge, 'up');
  let pods = 0;
  return {
    address,
    makeSandbox: () => {
      pods++;
      links++;
      const link = `p${process.pid}-${links}`;
      return makeSandbox({ bridge, address: `10.${number}.${(pods >> 8) + 1}.${pods & 255}`, link });
    },
    close: () => ip('link', 'delete', bridge),
  };
}

/** To make a bridge whose name is taken fails, so that no two drills have one. */
async function takeBridge(): Promise<number> {
  for (let number = 0; number < mostBridges; number++) {
    const isOurs = await ip('link', 'add', `kura${number}`, 'type', 'bridge').then(
      () => true,
      () => false,
    );
    if (isOurs) return number;
  }
  throw new Error('no bridge can be made: run it by npm run test:kubernetes, which makes a network namespace for it');
}

async function makeSandbox({ bridge, address, link }: { bridge: string; address: string; link: string }): Promise<Sandbox> {
  const steps = [
    'ip link set lo up',
    `ip link add eth0 type veth peer name ${link} netns ${process.pid}`,
    `ip address add ${address}/16 dev eth0`,
    'ip link set eth0 up',
    'echo ready',
    'exec sleep infinity',
  ];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'unshare', '--net', '--', 'sh', '-c', steps.join(' && ')], {
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
