/** `make crowd`: thousands of clients that take up room, and one that works. */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createVolume, ServerProcess } from '../crash/server-process.ts';
import { type CrowdOrder, type CrowdState, type Kind, KINDS, serveOrders } from './crowd.ts';
import { GoodClient, type Rate } from './good-client.ts';

const USAGE = `usage: make crowd ARGS="..."

  --idle N        clients that opened the export and ask for nothing (10000)
  --handshake N   stalled within an option; new ones come as they are dropped (1000)
  --write N       stalled in the middle of a WRITE of 128 KiB (1000)
  --deaf N        that ask for reads and never take the replies (100)
  --seconds N     that the good client works alone, and again in the crowd (10)
  --set KEY=VALUE a setting of the server; may be repeated

Fails if the good client is not served or reads what it did not write, if the server's memory grows by more than MEMORY below, or if the limits that
it must count are not counted. Needs as many open files as clients in the server and in the crowd: \`ulimit -n\`.
`;

const MIB = 2 ** 20;
const SIZE_BYTES = 64 * MIB;
const EXPORT = 'crowded';
const HALF_OPEN_MAX = 500;
/** MEMORY: an idle connection may take this much, and all of them together what the settings say of payloads and replies. */
const CONNECTION_BYTES_MAX = 40 * 1024;
const BUDGET_BYTES = (64 + 128 + 128) * MIB;
const SETTLE_MS = 2000;
const LOOK_MS = 250;

const { values } = parseArgs({
  options: {
    idle: { type: 'string', default: '10000' },
    handshake: { type: 'string', default: '1000' },
    write: { type: 'string', default: '1000' },
    deaf: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '10' },
    set: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', default: false },
    crowd: { type: 'boolean', default: false },
  },
});

const counts: Record<Kind, number> = { idle: Number(values.idle), handshake: Number(values.handshake), write: Number(values.write), deaf: Number(values.deaf) };

/** Resident bytes of a process. */
async function residentBytes(pid: number): Promise<number> {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) * 1024;
}

/** Looks at a process's memory until `stop`. */
class MemoryWatch {
  mostBytes = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#timer = setInterval(() => void residentBytes(pid).then((bytes) => (this.mostBytes = Math.max(this.mostBytes, bytes))), LOOK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

/** What the control API says of the server's clients. */
function serverInfo(directory: string): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: join(directory, 'control.sock'), path: '/v1/server' }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      answer.on('end', () => {
        const body: unknown = JSON.parse(text);
        resolve(typeof body === 'object' && body !== null ? { ...body } : {});
      });
    });
    asked.on('error', reject).end();
  });
}

const nextMessage = (child: ChildProcess): Promise<unknown> => new Promise((resolve) => void child.once('message', resolve));

async function gather(child: ChildProcess, socketPath: string): Promise<void> {
  for (const kind of KINDS) {
    if (counts[kind] === 0) continue;
    const order: CrowdOrder = { socketPath, exportName: EXPORT, kind, count: counts[kind] };
    const startMs = performance.now();
    child.send(order);
    const state = await nextMessage(child);
    console.log(`${counts[kind]} ${kind}: came in ${((performance.now() - startMs) / 1000).toFixed(1)} s: ${JSON.stringify(state)}`);
  }
}

const spell = ({ writes, perSecond, p50Ms, p99Ms, worstMs }: Rate): string =>
  `${writes} writes of 4 KiB, ${Math.round(perSecond)} a second; p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms, worst ${worstMs.toFixed(0)} ms`;

const mib = (bytes: number): string => `${Math.round(bytes / MIB)} MiB`;

function isStates(message: unknown): message is CrowdState[] {
  return Array.isArray(message);
}

interface Findings {
  readonly alone: Rate;
  readonly crowded: Rate;
  readonly grownBytes: number;
  readonly states: readonly CrowdState[];
  readonly info: Record<string, unknown>;
}

function problemsOf({ crowded, grownBytes, states, info }: Findings): string[] {
  const problems: string[] = [];
  const clients = states.reduce((sum, { there }) => sum + there, 0);
  const allowed = BUDGET_BYTES + clients * CONNECTION_BYTES_MAX;
  if (grownBytes > allowed) problems.push(`the server has grown by ${mib(grownBytes)}, more than ${mib(allowed)}`);
  if (crowded.writes === 0) problems.push('the good client was not served');
  const idle = states.find(({ kind }) => kind === 'idle');
  if (idle !== undefined && idle.there < counts.idle) problems.push(`only ${idle.there} of ${counts.idle} idle clients are there`);
  const { displaced } = { displaced: 0, ...(typeof info.clients === 'object' ? info.clients : {}) };
  if (counts.handshake > HALF_OPEN_MAX && displaced === 0) problems.push('nobody who stalls in the handshake was displaced');
  return problems;
}

async function measure(directory: string, socketPath: string, server: ServerProcess): Promise<Findings> {
  const good = await GoodClient.open(socketPath, EXPORT, SIZE_BYTES);
  const seconds = Number(values.seconds);
  await good.work(seconds / 4); // warm
  const alone = await good.work(seconds);
  const beforeBytes = await residentBytes(server.pid);
  console.log(`alone: ${spell(alone)}; server ${mib(beforeBytes)}`);
  const watch = new MemoryWatch(server.pid);
  const child = fork(process.argv[1], ['--crowd'], { stdio: 'inherit' });
  await gather(child, socketPath);
  await delay(SETTLE_MS);
  const comeBytes = await residentBytes(server.pid);
  console.log(`all are there: server ${mib(comeBytes)}, ${((comeBytes - beforeBytes) / 1024 / Object.values(counts).reduce((sum, count) => sum + count, 0)).toFixed(1)} KiB a client`);
  const crowded = await good.work(seconds);
  const newcomer = await GoodClient.open(socketPath, EXPORT, SIZE_BYTES); // one more is let in
  await newcomer.close();
  child.send('state');
  const states = await nextMessage(child);
  watch.stop();
  const info = await serverInfo(directory);
  console.log(`in the crowd: ${spell(crowded)}; server ${mib(watch.mostBytes)} at most`);
  console.log(`the crowd: ${JSON.stringify(states)}`);
  console.log(`the server: ${JSON.stringify({ connections: info.connections, halfOpen: info.halfOpen, clients: info.clients })}`);
  child.send('leave');
  await good.verify();
  await good.close();
  child.disconnect();
  return { alone, crowded, grownBytes: watch.mostBytes - beforeBytes, states: isStates(states) ? states : [], info };
}

async function main(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-crowd-'));
  const socketPath = join(directory, 'nbd.sock');
  const clients = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const settings = [`server.max_connections=${clients + 100}`, `server.max_half_open=${HALF_OPEN_MAX}`, ...values.set];
  const command = { entry: 'dist/cli/basalt.cjs', dataDirectory: directory, socketPath, settings };
  await createVolume(command, { name: EXPORT, mode: 'batched', sizeBytes: SIZE_BYTES });
  const server = ServerProcess.spawn(command);
  try {
    await server.ready(socketPath);
    const findings = await measure(directory, socketPath, server);
    const { alone, crowded } = findings;
    console.log(`rate in the crowd ${((100 * crowded.perSecond) / alone.perSecond).toFixed(0)} %, p99 ${(crowded.p99Ms / alone.p99Ms).toFixed(1)} times; all blocks hold what was written last`);
    const problems = problemsOf(findings);
    for (const problem of problems) console.log(`FAILED: ${problem}`);
    if (problems.length > 0) process.exitCode = 1;
  } finally {
    await server.kill();
    await rm(directory, { recursive: true });
  }
}

if (values.help) console.log(USAGE);
else if (values.crowd) serveOrders();
else await main();
