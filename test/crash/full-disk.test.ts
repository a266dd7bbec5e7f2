import { mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { NbdClient, NbdRequestError } from '../support/nbd-client.ts';
import { readAll, SMALL_SETTINGS } from './campaign.ts';
import { createVolume, type ServerCommand, ServerProcess } from './server-process.ts';
import { mountSmallDisk, type SmallDisk, type SmallDiskKind } from './small-disk.ts';
import { fillStamp } from './stamp.ts';
import { type Mutation, VolumeImage } from './volume-image.ts';

const ENOSPC = 28;
const DISK_BYTES = 160 * MIB;
/** What of the disk is left to the volume at first; the rest is ballast, removed later to make room. */
const ROOM_BYTES = {
  /** The log has its full length (32 MiB) long before the disk is full: a chunk finds no room. */
  chunk: 112 * MIB,
  /** The log itself cannot grow. */
  log: 16 * MIB,
} as const;
type Casualty = keyof typeof ROOM_BYTES;

const CASES: readonly (readonly [SmallDiskKind, Casualty])[] = [
  ['tmpfs', 'chunk'],
  ['tmpfs', 'log'],
  ['ext4', 'chunk'],
  ['ext4', 'log'],
];
const VOLUME_BYTES = 512 * MIB;
const WRITE_BYTES = 128 * 1024;
const RETRY_TIMEOUT_MS = 30_000;

let directory: string;
let disk: SmallDisk | null = null;
let server: ServerProcess | null = null;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-full-'));
});

afterEach(async () => {
  if (server !== null && !server.ended) await server.kill();
  server = null;
  await disk?.unmount();
  disk = null;
  await rm(directory, { recursive: true });
});

/** A volume on a small disk, its server, and a record of what was acknowledged. */
class FullDisk {
  readonly image = new VolumeImage({ sizeBytes: VOLUME_BYTES, blockSizeBytes: 4096 });
  readonly ballast: string;
  readonly #command: ServerCommand;
  #requests = 0;

  constructor(path: string) {
    this.ballast = join(path, 'ballast');
    this.#command = { entry: resolve('dist/cli/basalt.cjs'), dataDirectory: join(path, 'data'), socketPath: join(directory, 'nbd.sock'), settings: SMALL_SETTINGS };
  }

  async create(roomBytes: number): Promise<void> {
    await mkdir(this.#command.dataDirectory);
    await createVolume(this.#command, { name: 'full', mode: 'batched', sizeBytes: VOLUME_BYTES });
    const { bavail, bsize } = await statfs(this.#command.dataDirectory);
    await writeFile(this.ballast, Buffer.alloc(bavail * bsize - roomBytes, 1));
  }

  async serve(): Promise<NbdClient> {
    server = ServerProcess.spawn(this.#command);
    await server.ready(this.#command.socketPath);
    return NbdClient.open({ path: this.#command.socketPath }, 'full');
  }

  #nextWrite(offsetBytes: number): Mutation {
    return { request: (this.#requests += 1), connection: 1, kind: 'stamp', offsetBytes, lengthBytes: WRITE_BYTES };
  }

  /** The NBD error, or 0. */
  async write(client: NbdClient, mutation: Mutation): Promise<number> {
    const { offsetBytes } = mutation;
    expect(this.image.begin(mutation)).toBe(true);
    const data = new Uint8Array(WRITE_BYTES);
    fillStamp(data, offsetBytes, mutation);
    try {
      await client.write(offsetBytes, data, false);
      this.image.acknowledge(mutation);
      return 0;
    } catch (error) {
      if (!(error instanceof NbdRequestError)) throw error;
      this.image.refuse(mutation);
      return error.errno;
    }
  }

  /** Writes on and on until the server refuses; returns where, and with which error. */
  async fill(client: NbdClient): Promise<{ offsetBytes: number; errno: number }> {
    for (let offsetBytes = 0; offsetBytes < VOLUME_BYTES; offsetBytes += WRITE_BYTES) {
      const errno = await this.write(client, this.#nextWrite(offsetBytes));
      if (errno !== 0) return { offsetBytes, errno };
    }
    throw new Error(`${VOLUME_BYTES} bytes fit a disk of ${DISK_BYTES}`);
  }

  /** The server finds out by itself that there is room again: writes until one is taken. */
  async writeUntilTaken(client: NbdClient, offsetBytes: number): Promise<void> {
    const deadline = performance.now() + RETRY_TIMEOUT_MS;
    const mutation = this.#nextWrite(offsetBytes);
    for (let errno = await this.write(client, mutation); errno !== 0; errno = await this.write(client, mutation)) {
      expect(errno).toBe(ENOSPC);
      if (performance.now() > deadline) throw new Error('writes are still refused, though there is room');
      await delay(50);
    }
  }
}

test.for(CASES)('a %s too full for a %s: ENOSPC to the client, what is acknowledged stays, writes go on when there is room', { timeout: 120_000 }, async ([kind, casualty], { skip }) => {
  const mounted = await mountSmallDisk(kind, directory, DISK_BYTES);
  if (typeof mounted === 'string') return skip(mounted);
  disk = mounted;
  const volume = new FullDisk(mounted.path);
  await volume.create(ROOM_BYTES[casualty]);
  let client = await volume.serve();

  const refused = await volume.fill(client);
  expect(refused.errno).toBe(ENOSPC);
  expect(refused.offsetBytes > 32 * MIB).toBe(casualty === 'chunk');
  expect(await readAll(client, volume.image)).toEqual([]);

  await rm(volume.ballast);
  await volume.writeUntilTaken(client, refused.offsetBytes);
  for (let index = 1; index <= 16; index += 1) await volume.writeUntilTaken(client, refused.offsetBytes + index * WRITE_BYTES);
  await client.flush();
  expect(await readAll(client, volume.image)).toEqual([]);

  await client.close();
  server?.terminate();
  expect(await server?.exit).toBe(0);
  client = await volume.serve();
  expect(await readAll(client, volume.image)).toEqual([]);
  await client.close();
});

test.for(CASES)('killed while its %s is too full for a %s, a volume comes back whole when there is room', { timeout: 120_000 }, async ([kind, casualty], { skip }) => {
  const mounted = await mountSmallDisk(kind, directory, DISK_BYTES);
  if (typeof mounted === 'string') return skip(mounted);
  disk = mounted;
  const volume = new FullDisk(mounted.path);
  await volume.create(ROOM_BYTES[casualty]);
  let client = await volume.serve();
  expect((await volume.fill(client)).errno).toBe(ENOSPC);
  await server?.kill();
  await client.cut();

  await rm(volume.ballast);
  client = await volume.serve();
  expect(await readAll(client, volume.image)).toEqual([]);
  await volume.writeUntilTaken(client, 0);
  await client.close();
  server?.terminate();
  expect(await server?.exit).toBe(0);
});
