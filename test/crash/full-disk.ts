/** A volume on a small disk of its own that runs full, its server, and a record of what was acknowledged. */
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Durability } from '../../src/base/durability.ts';
import { NbdClient, NbdRequestError } from '../support/nbd-client.ts';
import { readAll, SMALL_SETTINGS } from './campaign.ts';
import { createVolume, type ServerCommand, ServerProcess } from './server-process.ts';
import { fillStamp } from './stamp.ts';
import { type Mutation, VolumeImage } from './volume-image.ts';

export interface FullDiskOptions {
  /** Where the disk is mounted. */
  readonly path: string;
  readonly socketPath: string;
  readonly entry: string;
  readonly sizeBytes: number;
  readonly mode: Durability;
}

const VOLUME = 'full';
const EPERM = 1;
const ENOSPC = 28;
const WRITE_BYTES = 128 * 1024;
const RETRY_TIMEOUT_MS = 120_000;

export class FullDisk {
  readonly image: VolumeImage;
  readonly #options: FullDiskOptions;
  readonly #command: ServerCommand;
  readonly #ballast: string;
  #server: ServerProcess | null = null;
  #requests = 0;

  constructor(options: FullDiskOptions) {
    const { path, socketPath, entry, sizeBytes } = options;
    this.#options = options;
    this.image = new VolumeImage({ sizeBytes, blockSizeBytes: 4096 });
    this.#ballast = join(path, 'ballast');
    this.#command = { entry, dataDirectory: join(path, 'data'), socketPath, settings: SMALL_SETTINGS };
  }

  /** Makes the volume, and fills the disk up to `roomBytes`. */
  async create(roomBytes: number): Promise<void> {
    const { mode, sizeBytes } = this.#options;
    await mkdir(this.#command.dataDirectory);
    await createVolume(this.#command, { name: VOLUME, mode, sizeBytes });
    const { bavail, bsize } = await statfs(this.#command.dataDirectory);
    await writeFile(this.#ballast, Buffer.alloc(bavail * bsize - roomBytes, 1));
  }

  /** Something else is deleted: there is room. */
  async makeRoom(): Promise<void> {
    await rm(this.#ballast);
  }

  /** Starts the server and connects to it. */
  async serve(): Promise<NbdClient> {
    this.#server = ServerProcess.spawn(this.#command);
    await this.#server.ready(this.#command.socketPath);
    return NbdClient.open({ path: this.#command.socketPath }, VOLUME);
  }

  async kill(): Promise<void> {
    await this.#server?.kill();
  }

  /** SIGTERM, and how the server ended. */
  async stop(): Promise<number | string | undefined> {
    this.#server?.terminate();
    return this.#server?.exit;
  }

  /** Whether a client has the volume for reading alone: then its writes are not permitted. */
  async isReadOnly(client: NbdClient): Promise<boolean> {
    return (await this.#write(client, this.#nextWrite(0))) === EPERM;
  }

  /** Everything that the volume holds and should not, or the other way round. */
  problems(client: NbdClient): Promise<string[]> {
    return readAll(client, this.image);
  }

  #nextWrite(offsetBytes: number): Mutation {
    return { request: (this.#requests += 1), connection: 1, kind: 'stamp', offsetBytes, lengthBytes: WRITE_BYTES };
  }

  /** The NBD error, or 0. */
  async #write(client: NbdClient, mutation: Mutation): Promise<number> {
    const { offsetBytes } = mutation;
    if (!this.image.begin(mutation)) throw new Error('a write overlaps one that is under way');
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
  async fill(client: NbdClient): Promise<{ readonly offsetBytes: number; readonly errno: number }> {
    const { sizeBytes } = this.#options;
    for (let offsetBytes = 0; offsetBytes < sizeBytes; offsetBytes += WRITE_BYTES) {
      const errno = await this.#write(client, this.#nextWrite(offsetBytes));
      if (errno !== 0) return { offsetBytes, errno };
    }
    throw new Error(`${sizeBytes} bytes fit the small disk`);
  }

  /** The server finds out by itself that there is room again: writes until one is taken, `count` times at rising offsets. */
  async writeOn(client: NbdClient, offsetBytes: number, count: number): Promise<void> {
    const deadline = performance.now() + RETRY_TIMEOUT_MS;
    for (let index = 0; index < count; index += 1) {
      const mutation = this.#nextWrite(offsetBytes + index * WRITE_BYTES);
      for (let errno = await this.#write(client, mutation); errno !== 0; errno = await this.#write(client, mutation)) {
        if (errno !== ENOSPC) throw new Error(`a write on a disk that was full failed with NBD error ${errno}, expected ${ENOSPC}`);
        if (performance.now() > deadline) throw new Error('writes are still refused, though there is room');
        await delay(50);
      }
    }
  }
}
