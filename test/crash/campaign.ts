/**
 * Kills a working server again and again, and looks after each restart whether every acknowledged request is there.
 * One data directory lives through the whole campaign, so that later kills meet a log that has gone round, chunks,
 * checkpoints, and what earlier recoveries have left.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { deferred } from '../../src/base/async.ts';
import { type Durability } from '../../src/base/durability.ts';
import { NbdClient, type NbdRequestError } from '../support/nbd-client.ts';
import { isDisconnection } from './disconnection.ts';
import { type LoadCounts, noCounts, runLoad } from './load.ts';
import type { SeededRandom } from './random.ts';
import { RunningClock, within } from './running-time.ts';
import { createVolume, type ServerCommand, ServerProcess } from './server-process.ts';
import { VolumeImage } from './volume-image.ts';

export interface CampaignOptions {
  /** Holds the volumes, the socket; made if missing, left behind. */
  readonly directory: string;
  /** The compiled command line, `dist/cli/basalt.cjs`. */
  readonly entry: string;
  readonly random: SeededRandom;
  readonly modes: readonly Durability[];
  readonly sizeBytes: number;
  readonly connections: number;
  readonly depth: number;
  readonly loadMsMax: number;
  readonly settings: readonly string[];
}

/** How a run ended the server. */
export type Ending = 'killed' | 'killed while stopping' | 'stopped';

export interface RunSummary {
  readonly ending: Ending;
  readonly recoveryKills: number;
  readonly counts: LoadCounts;
}

interface TestVolume {
  readonly name: string;
  readonly mode: Durability;
  readonly image: VolumeImage;
}

/**
 * Small limits, so that a second of load fills slabs, laps the log, cuts checkpoints and drops clean memory: a kill
 * then finds all of it under way.
 */
export const SMALL_SETTINGS: readonly string[] = [
  'engine.arena_bytes=32M',
  'engine.dirty_bytes=16M',
  'engine.flush_bytes=4M',
  'engine.flush_interval_ms=150',
  'engine.log_file_bytes=8M',
  'engine.log_file_count=4',
  'engine.index_bytes=1M',
  'engine.open_chunk_files=8',
  'engine.checkpoint_chunks=3',
  'engine.checkpoint_interval_ms=400',
];

const ASYNC_INTERVAL_MS = 100;
/** What mode async promises holds for every run, also with default limits. */
const ASYNC_SETTINGS: readonly string[] = [`engine.async_interval_ms=${ASYNC_INTERVAL_MS}`];
/** The interval ends with a log write, which a busy machine makes wait. */
const ASYNC_TOLERANCE_MS = 400;

/** A server that makes no progress for so long hangs, however busy the machine is. */
const HANG_TIMEOUT_MS = 60_000;
const BLOCK_BYTES = 4096;
const ESHUTDOWN = 108;

export class CrashCampaign {
  readonly #options: CampaignOptions;
  readonly #command: ServerCommand;
  readonly #volumes: readonly TestVolume[];
  readonly #clock = new RunningClock();
  #requests = 0;
  #server: ServerProcess | null = null;

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#command = {
      entry: options.entry,
      dataDirectory: join(options.directory, 'data'),
      socketPath: join(options.directory, 'nbd.sock'),
      settings: [...options.settings, ...ASYNC_SETTINGS],
    };
    const { sizeBytes } = options;
    this.#volumes = options.modes.map((mode) => {
      const forgetful = mode === 'async' ? { forgetful: this.#clock } : {};
      return { name: mode, mode, image: new VolumeImage({ sizeBytes, blockSizeBytes: BLOCK_BYTES, ...forgetful }) };
    });
  }

  /** Creates the volumes, one for each mode. */
  async prepare(): Promise<void> {
    await mkdir(this.#command.dataDirectory, { recursive: true });
    for (const { name, mode } of this.#volumes) await createVolume(this.#command, { name, mode, sizeBytes: this.#options.sizeBytes });
  }

  /** One life of the server: start, check all that earlier lives have left, load, end. Rejects when something is lost. */
  async run(): Promise<RunSummary> {
    const { random, loadMsMax } = this.#options;
    try {
      const recoveryKills = await this.#killRecoveries();
      const server = await this.#start();
      await this.#verifyAll();
      const loadMs = random.next() ** 2 * loadMsMax; // most kills early, where recovery and load meet
      const { ending, counts } = await this.#loadAndEnd(server, loadMs);
      return { ending, recoveryKills, counts };
    } catch (error) {
      const output = this.#server?.output ?? '';
      await this.abort();
      throw new Error(`${error instanceof Error ? error.message : String(error)}\nthe server's last output:\n${output.slice(-4000)}`, { cause: error });
    }
  }

  /** Checks once more, and stops in order. */
  async finish(): Promise<void> {
    const server = await this.#start();
    await this.#verifyAll();
    await this.#stop(server);
    this.#clock.stop();
  }

  /** Ends the server, if one runs. */
  async abort(): Promise<void> {
    this.#clock.stop();
    await this.#server?.kill();
  }

  /** The longer a chain of kills in the middle of recovery, the rarer it is. */
  async #killRecoveries(): Promise<number> {
    const { random } = this.#options;
    let kills = 0;
    while (kills < 4 && random.chance(0.3)) {
      const server = this.#spawn();
      await Promise.race([server.ready(this.#command.socketPath), server.exit]);
      // A volume is recovered when a client first asks for it.
      const clients = this.#volumes.map(({ name }) => this.#connect(name).catch(notConnected));
      await delay(random.next() ** 2 * 150);
      this.#assertAlive(server);
      await server.kill();
      for (const client of await Promise.all(clients)) await client?.cut();
      kills += 1;
    }
    return kills;
  }

  #connect(name: string): Promise<NbdClient> {
    return NbdClient.open({ path: this.#command.socketPath }, name);
  }

  async #start(): Promise<ServerProcess> {
    const server = this.#spawn();
    await server.ready(this.#command.socketPath);
    return server;
  }

  #spawn(): ServerProcess {
    this.#server = ServerProcess.spawn(this.#command);
    return this.#server;
  }

  async #verifyAll(): Promise<void> {
    for (const { name, mode, image } of this.#volumes) {
      const client = await this.#connect(name);
      const problems = await readAll(client, image);
      await client.close();
      if (problems.length > 0) throw new Error(`volume "${name}" (${mode}): ${problems.length} blocks are wrong:\n${problems.slice(0, 10).join('\n')}`);
      image.settle();
    }
  }

  async #loadAndEnd(server: ServerProcess, loadMs: number): Promise<{ ending: Ending; counts: LoadCounts }> {
    let stopping = false;
    const mayFail = (error: NbdRequestError): boolean => stopping && error.errno === ESHUTDOWN;
    const clients = await Promise.all(
      this.#volumes.flatMap((volume) => Array.from({ length: this.#options.connections }, async () => ({ volume, client: await this.#connect(volume.name) }))),
    );
    const answered = deferred<void>();
    const { random, depth } = this.#options;
    const nextRequest = (): number => (this.#requests += 1);
    const loads = clients.map(({ volume, client }, connection) =>
      runLoad({ client, connection, image: volume.image, random, depth, nextRequest, mayFail, acknowledged: () => answered.resolve() }),
    );
    const all = Promise.all(loads);
    // A wrong reply ends the run at once; otherwise the loads end with their connections.
    await within(HANG_TIMEOUT_MS, 'the first answer to a write', Promise.race([all, answered.promise]));
    await Promise.race([all, delay(loadMs)]);
    this.#assertAlive(server);
    stopping = true;
    const endMs = this.#clock.nowMs();
    const ending = await this.#end(server);
    const counts = (await all).reduce(sum, noCounts());
    for (const { client } of clients) await client.cut();
    for (const { image } of this.#volumes) {
      image.settleOlder(ending === 'stopped' ? Infinity : endMs - ASYNC_INTERVAL_MS - ASYNC_TOLERANCE_MS);
      image.crashed();
    }
    return { ending, counts };
  }

  async #end(server: ServerProcess): Promise<Ending> {
    const { random } = this.#options;
    const choice = random.next();
    if (choice < 0.05) {
      await this.#stop(server);
      return 'stopped';
    }
    if (choice < 0.2) {
      server.terminate();
      await Promise.race([delay(random.next() ** 2 * 200), server.exit]);
      await server.kill();
      return 'killed while stopping';
    }
    await server.kill();
    return 'killed';
  }

  async #stop(server: ServerProcess): Promise<void> {
    server.terminate();
    const how = await within(HANG_TIMEOUT_MS, 'the end of the server after SIGTERM', server.exit);
    if (how !== 0) throw new Error(`the server ended with ${how} after SIGTERM, expected 0`);
  }

  #assertAlive(server: ServerProcess): void {
    if (server.ended) throw new Error('the server ended by itself');
  }
}

/** The server was killed before it let the client in. */
function notConnected(error: unknown): null {
  if (isDisconnection(error)) return null;
  throw error;
}

function sum(left: LoadCounts, right: LoadCounts): LoadCounts {
  return {
    acknowledged: left.acknowledged + right.acknowledged,
    acknowledgedBytes: left.acknowledgedBytes + right.acknowledgedBytes,
    reads: left.reads + right.reads,
    flushes: left.flushes + right.flushes,
    unanswered: left.unanswered + right.unanswered,
    refused: left.refused + right.refused,
  };
}

const READ_BYTES = 1024 * 1024;

/** Reads a whole volume and returns what is wrong with it, a line for each block. */
export async function readAll(client: NbdClient, image: VolumeImage): Promise<string[]> {
  const problems: string[] = [];
  for (let offsetBytes = 0; offsetBytes < image.sizeBytes; offsetBytes += READ_BYTES) {
    const lengthBytes = Math.min(READ_BYTES, image.sizeBytes - offsetBytes);
    const bytes = await client.read(offsetBytes, lengthBytes);
    problems.push(...image.verify(offsetBytes, bytes).map(({ text }) => text));
  }
  return problems;
}
