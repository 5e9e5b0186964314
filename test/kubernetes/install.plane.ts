/**
 * The commands of docs/install.md, and those of docs/operate.md to upgrade and rotate, word for word, from an empty cluster. Only docker and
 * kind are left out, and `exec` runs here.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { passedOn } from '../support/environment.ts';
import { waitFor } from '../support/wait.ts';
import { binariesDirectory } from './plane/plane.ts';
import { type Drill, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const root = path.resolve(import.meta.dirname, '..', '..');
const pages = await Promise.all(['install.md', 'operate.md'].map((name) => readFile(path.join(root, 'docs', name), 'utf8')));
/** The commands by the heading above them. A list indents its blocks. */
const blocks = pages
  .join('\n')
  .split(/^##+ /m)
  .flatMap((section) => {
    const heading = section.slice(0, section.indexOf('\n'));
    return [...section.matchAll(/^( *)```sh\n(.*?)^\1```$/gms)].map(([, indent = '', text = '']) => ({
      heading,
      text: text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
    }));
  });
const overlays = { trial: '- ../trial\n', production: '- ../production\n' } as const;

/** One shell that keeps its variables from block to block, as that of a reader does. */
class Shell {
  readonly #directory: string;
  readonly #environment: Readonly<Record<string, string>>;

  constructor(directory: string, environment: Readonly<Record<string, string>>) {
    this.#directory = directory;
    this.#environment = environment;
  }

  /** Returns what the commands print. Throws when one fails. */
  async paste(text: string): Promise<string> {
    const state = path.join(this.#directory, 'shell');
    // The state of the shell is its variables and functions.
    const script = `[ -f ${state} ] && . ${state} 2> /dev/null; set -e\n${text}\n{ declare -p | grep -v ' -[a-zA-Z]*r'; declare -f; } > ${state}`;
    const env = { ...passedOn, ...this.#environment };
    const child = spawn('bash', ['-c', script], { cwd: path.join(this.#directory, 'clone'), env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    const [status] = (await once(child, 'close')) as [number | null];
    if (status !== 0) throw new Error(`${text}\nended with status ${status}: ${output}`);
    return output;
  }
}

/** `exec` of the page runs the command here, with a token of the Pod. */
const kubectlScript = (directory: string): string => `#!/bin/sh
case "$*" in
"-n speech exec trainer -- kura "*)
  shift 6
  KURA_SERVER=$(cat ${directory}/server) KURA_TOKEN_FILE=${directory}/token HOME=${directory} exec ${process.execPath} \\
    ${root}/services/cli/main.ts "$@" ;;
*) exec ${binariesDirectory}/kubectl "$@" ;;
esac
`;

async function openShell(kubeconfig: string, directory: string): Promise<Shell> {
  const clone = path.join(directory, 'clone');
  for (const folder of ['k8s', 'envoy']) await cp(path.join(root, folder), path.join(clone, folder), { recursive: true });
  await cp(path.join(root, 'package.json'), path.join(clone, 'package.json'));
  await mkdir(path.join(directory, 'bin'));
  await writeFile(path.join(directory, 'bin', 'kubectl'), kubectlScript(directory), { mode: 0o755 });
  return new Shell(directory, { KUBECONFIG: kubeconfig, HOME: directory, PATH: `${directory}/bin:${passedOn.PATH}` });
}

function textOf(heading: string, overlay?: keyof typeof overlays): string[] {
  const found = blocks.filter((block) => block.heading === heading).map(({ text }) => text);
  return overlay === undefined ? found : found.filter((text) => text.includes(overlays[overlay]));
}

async function firstObject(t: ExecutionContext, drill: Drill, shell: Shell, directory: string): Promise<void> {
  const [pod, requests] = textOf('Store and read the first object') as [string, string];
  await shell.paste(pod);
  // The kubelet of the drills runs no Pods of other namespaces.
  const status = JSON.stringify({ status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } });
  await drill.kubectl.ok('-n', 'speech', 'patch', 'pod', 'trainer', '--subresource=status', '--type=merge', '-p', status);
  const token = ['-n', 'speech', 'create', 'token', 'trainer', '--audience=kura', '--bound-object-kind=Pod', '--bound-object-name=trainer'];
  await writeFile(path.join(directory, 'token'), await drill.kubectl.ok(...token));
  const [address] = await waitFor('an Envoy in the Service', () => drill.addresses().length > 0 && drill.addresses());
  await writeFile(path.join(directory, 'server'), `http://${address}:8080`);
  t.true((await shell.paste(requests)).endsWith(await readFile(path.join(root, 'package.json'), 'utf8')));
}

for (const overlay of ['trial', 'production'] as const) {
  test.serial(`the commands for ${overlay} lead from an empty cluster to the first object, and remove everything`, async (t) => {
    t.timeout(10 * 60_000);
    let shell: Shell | undefined;
    let folder = '';
    const drill = await startDrill({
      install: async ({ kubeconfig, directory }) => {
        folder = directory;
        shell = await openShell(kubeconfig, directory);
        const [name] = textOf('Build the image') as [string];
        for (const text of [name, ...textOf('Choose trial or production', overlay), ...textOf('Install')]) await shell.paste(text);
      },
    });
    t.teardown(() => drill.stop());
    const opened = shell as unknown as Shell;
    await firstObject(t, drill, opened, folder);
    const [upgrade] = textOf('Upgrade') as [string];
    const rotation = textOf('Rotate the credential of the shards').filter((text) => text.includes('set_keys "'));
    t.is(rotation.length, 3);
    for (const text of [upgrade, ...rotation]) await opened.paste(text);
    const keys = await drill.kubectl.ok('-n', system, 'get', 'secret', 'kura-credential', '-o', 'jsonpath={.data.keys}');
    t.regex(Buffer.from(keys, 'base64').toString(), /^[0-9a-f]{64}$/);
    // Both pages have this heading.
    const [remove] = textOf('Remove') as [string];
    await opened.paste(remove);
    // An Envoy ends after 65 s.
    await waitFor('every Pod of kura to be gone', () => drill.kubelet.pods().length === 0, { withinMs: 150_000 });
  });
}
