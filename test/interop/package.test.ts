import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findingsOf } from '../support/findings.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { PROJECT_ROOT, readTree } from '../support/source-tree.ts';
import { interopTest, runTool } from './tools.ts';

/** npm asks its registry, and the machine may be busy. */
const NPM_TIMEOUT_MS = 600_000;

let directory: string;
let tarball: string;
let files: readonly string[];

interface Ran {
  readonly status: number | string;
  readonly out: string;
  readonly error: string;
}

function run(cwd: string, program: string, ...words: string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let error = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (error += text));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ status: code ?? signal ?? 'unknown', out, error }));
  });
}

async function runOk(cwd: string, program: string, ...words: string[]): Promise<string> {
  const { status, out, error } = await run(cwd, program, ...words);
  expect(status, `${program} ${words.join(' ')}\n${out}${error}`).toBe(0);
  return out;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-package-'));
  // What was built is packed as it is: others run it meanwhile.
  await runOk(PROJECT_ROOT, 'npm', 'pack', '--ignore-scripts', '--pack-destination', directory);
  tarball = join(directory, (await readdir(directory))[0] ?? '');
  files = (await runOk(directory, 'tar', '--list', '--file', tarball)).trimEnd().split('\n').map((path) => path.replace(/^package\//, ''));
}, NPM_TIMEOUT_MS);
afterAll(() => rm(directory, { recursive: true, force: true }));

describe('the package', () => {
  test('holds what was built of each source, the settings, the units, what watches, and the papers, and nothing else', () => {
    const built = readTree('src', /\.c?ts$/).flatMap(({ path }) => {
      const name = path.replace(/\.(c?)ts$/, '');
      return path.endsWith('.cts') ? [`dist/${name}.cjs`, `dist/${name}.d.cts`] : [`dist/${name}.js`, `dist/${name}.d.ts`];
    });
    const settings = ['default', 'dev', 'jetson-sd', 'nvme', 's3', 'wsl'].map((name) => `config/${name}.toml`);
    const papers = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json', 'src/control/openapi.json'];
    const units = readTree('systemd', /./).map(({ path }) => `systemd/${path}`);
    const monitoring = readTree('monitoring', /./).map(({ path }) => `monitoring/${path}`);
    // A file of dist whose source is gone: `make clean build`.
    expect(files.toSorted()).toEqual([...built, ...settings, ...papers, ...units, ...monitoring].toSorted());
  });

  test('is small', () => {
    expect(files.some((path) => /test|bench|\.map$|\.log$|\.tsbuildinfo$/.test(path))).toBe(false);
  });
});

describe.each([
  ['with all packages', []],
  ['without the optional ones', ['--omit=optional']],
] as const)('installed into an empty folder, %s', (name, flags) => {
  let folder: string;
  const command = (...words: string[]): [string, ...string[]] => [join(folder, 'node_modules/.bin/basalt'), ...words];

  beforeAll(async () => {
    folder = join(directory, `installed${flags.length}`);
    await mkdir(folder);
    await writeFile(join(folder, 'package.json'), '{ "name": "empty", "private": true }\n');
    await runOk(folder, 'npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', ...flags, tarball);
  }, NPM_TIMEOUT_MS);

  test('it has the optional packages, or has not', async () => {
    expect(existsSync(join(folder, 'node_modules/koffi'))).toBe(flags.length === 0);
    const scoped = join(folder, 'node_modules/@node-rs');
    expect(existsSync(scoped) && (await readdir(scoped)).includes('crc32')).toBe(flags.length === 0);
    // Nothing that only building takes.
    for (const tool of ['typescript', 'vitest', 'oxlint']) expect(existsSync(join(folder, 'node_modules', tool))).toBe(false);
  });

  test('it makes a volume with a profile, and the doctor says what is missing', async () => {
    await writeFile(join(folder, 'card.toml'), await runOk(folder, ...command('settings', '--profile', 'jetson-sd')));
    await runOk(folder, ...command('create', 'demo', '64M', '--config', 'card.toml', '--json'));
    const { out } = await run(folder, ...command('doctor', '--json'));
    const packages = findingsOf(out).findings.filter(({ check }) => check.startsWith('package ')).map(({ state, mend }) => [state, mend?.startsWith('npm install ') ?? null]);
    expect(packages).toEqual(flags.length === 0 ? [['ok', null], ['ok', null]] : [['warning', true], ['warning', true]]);
  });

  interopTest(['nbdinfo'], 'it serves the volume, which nbdinfo sees, and says so when a mapped log is asked for and not possible', async () => {
    const socket = join(folder, 'nbd.sock');
    const [program, ...words] = command('serve', '--socket', socket, '--config', 'card.toml', '--engine.log-io', 'mmap');
    const server = spawn(program, words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    let log = '';
    server.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
    const ended = new Promise<number | null>((resolve) => server.on('close', resolve));
    try {
      await new Promise<void>((resolve, reject) => {
        server.stdout.once('data', () => resolve());
        server.once('error', reject);
        server.once('close', () => reject(new Error(`it ended: ${log}`)));
      });
      const { status, out } = await runTool('nbdinfo', ['--json', `nbd+unix:///demo?socket=${socket}`]);
      expect([status, JSON.parse(out)]).toEqual([0, expect.objectContaining({ exports: [expect.objectContaining({ 'export-size': 64 * 1024 * 1024 })] })]);
      const client = await NbdClient.open({ path: socket }, 'demo');
      await client.write(4096, Buffer.alloc(8192, name));
      await client.flush();
      expect((await client.read(4096, 8192)).equals(Buffer.alloc(8192, name))).toBe(true);
      await client.close();
    } finally {
      server.kill('SIGTERM');
    }
    expect(await ended, log).toBe(0);
    expect(log.includes('"no-mapped-log"')).toBe(flags.length > 0);
    if (flags.length > 0) expect(log).toContain('koffi');
  });
});
