/** Attaching, detaching, rescuing: what the verbs do, once each. `agent.ts` stays. */
import { VolumeError } from '../base/errors.ts';
import type { Clock } from '../env/env.ts';
import { NBD_FLAG_CAN_MULTI_CONN, NBD_FLAG_READ_ONLY } from '../protocol/constants.ts';
import { formatNbdUri, type NbdTarget } from '../protocol/uri.ts';
import type { ExportTerms } from '../protocol/client-handshake.ts';
import { type Device, type DeviceLookup, devicePath } from './devices.ts';
import type { Dialled, Dialler } from './dial.ts';
import type { NbdKernel } from './kernel.ts';

/** More than any device has: those that none is dead for are let go by the kernel. */
const SPARE_CONNECTIONS = 8;
/** How long a device that was detached may take to be free. */
const RELEASE_MS = 5000;
/** How long somebody may have a device open who only looks at it. */
const PASSING_MS = 1000;
const LOOK_MS = 50;
const BLOCK_BYTES_MAX = 4096;

export interface AttachOptions {
  readonly target: NbdTarget;
  /** Null: the first free one. */
  readonly index: number | null;
  readonly connections: number;
  readonly blockSizeBytes: number;
  readonly timeoutSeconds: number;
  readonly deadTimeoutSeconds: number;
}

export interface Attached {
  readonly device: string;
  readonly index: number;
  readonly uri: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** False: it was attached already, and is brought up to date. */
  readonly isNew: boolean;
}

export interface Rescued {
  readonly device: string;
  /** `reconnected`: the server answers, and nothing is lost. `freed`: nobody has it any more. `held`: it is free once `users` let go of it. */
  readonly outcome: 'reconnected' | 'freed' | 'held';
  readonly users: readonly string[];
}

export interface AttacherParts {
  readonly kernel: NbdKernel;
  readonly dialler: Dialler;
  readonly devices: DeviceLookup;
  readonly clock: Clock;
  /** Writes what the page cache has of a device, and flushes the device. */
  readonly flush: (path: string) => Promise<void>;
}

/** Connections of one export, all of the same size. On an error none is left open. */
export async function dialAll(dialler: Dialler, target: NbdTarget, count: number): Promise<{ readonly descriptors: readonly number[]; readonly terms: ExportTerms }> {
  const first = await dialler.dial(target);
  const dialled: Dialled[] = [first];
  try {
    if (count > 1 && (first.terms.flags & NBD_FLAG_CAN_MULTI_CONN) === 0) throw new VolumeError('unsupported', `the server of ${formatNbdUri(target)} does not allow several connections to one export; attach with --connections 1`);
    while (dialled.length < count) dialled.push(await dialler.dial(target));
    if (dialled.some(({ terms }) => terms.sizeBytes !== first.terms.sizeBytes)) throw new VolumeError('unavailable', `${formatNbdUri(target)} changes its size just now; try again`);
    return { descriptors: dialled.map(({ descriptor }) => descriptor), terms: first.terms };
  } catch (error) {
    for (const { descriptor } of dialled) dialler.close(descriptor);
    throw error;
  }
}

export class Attacher {
  readonly #parts: AttacherParts;

  constructor(parts: AttacherParts) {
    this.#parts = parts;
  }

  /**
   * Attaches an export. One that is attached already, with this URI, gets the size that it has now and new connections for dead ones. Errors:
   * `in-use` for a device, `denied` without root, and those of `Dialler.dial`. A device that is new hands its connections' descriptors over.
   */
  async attach(options: AttachOptions, keepDescriptors: (descriptors: readonly number[]) => void = this.#closeAll): Promise<Attached> {
    const { kernel, dialler, devices } = this.#parts;
    const uri = formatNbdUri(options.target);
    const present = (await devices.list()).find(({ isAttached, backend }) => isAttached && backend === uri);
    if (present !== undefined) return this.#refresh(present, options);
    if (options.index !== null) await this.#checkFree(options.index);
    const { descriptors, terms } = await dialAll(dialler, options.target, options.connections);
    try {
      checkBlockSize(options, terms);
      const index = await kernel.connect({ ...options, sizeBytes: terms.sizeBytes, serverFlags: terms.flags, descriptors, backend: uri });
      keepDescriptors(descriptors);
      return { device: devicePath(index), index, uri, sizeBytes: terms.sizeBytes, readOnly: isReadOnly(terms), isNew: true };
    } catch (error) {
      this.#closeAll(descriptors);
      throw explainConnect(error, options.index);
    }
  }

  readonly #closeAll = (descriptors: readonly number[]): void => {
    for (const descriptor of descriptors) this.#parts.dialler.close(descriptor);
  };

  async #checkFree(index: number): Promise<void> {
    const { devices } = this.#parts;
    const device = (await devices.list()).find((other) => other.index === index);
    if (device === undefined || !device.isAttached) return; // one that is not there yet is made by the kernel
    const users = await devices.usersOf(index);
    const what = [device.backend === null ? 'attached by another program' : `attached to ${device.backend}`, ...users].join(', ');
    throw new VolumeError('in-use', `${device.path} is in use: ${what}; leave the device out to take a free one, or detach it first: basalt detach ${device.path}`, { context: { device: device.path } });
  }

  async #refresh(device: Device, { target, index }: AttachOptions): Promise<Attached> {
    const { path, backend } = device;
    if (index !== null && index !== device.index) throw new VolumeError('in-use', `${formatNbdUri(target)} is attached as ${path} already: one volume as two devices would be written over by both; detach that one first: basalt detach ${path}`, { context: { device: path } });
    const terms = await this.#reconnect(device.index, target, backend);
    return { device: path, index: device.index, uri: formatNbdUri(target), sizeBytes: terms.sizeBytes, readOnly: isReadOnly(terms), isNew: false };
  }

  /** New connections for those of a device that are dead, and the size that the export has now. */
  async #reconnect(index: number, target: NbdTarget, backend: string | null): Promise<ExportTerms> {
    const { kernel, dialler } = this.#parts;
    const { flags } = await dialler.look(target);
    const { descriptors, terms } = await dialAll(dialler, target, (flags & NBD_FLAG_CAN_MULTI_CONN) === 0 ? 1 : SPARE_CONNECTIONS);
    try {
      await kernel.reconfigure({ index, backend, descriptors, sizeBytes: terms.sizeBytes });
      return terms;
    } finally {
      this.#closeAll(descriptors);
    }
  }

  /** Flushes a device that nobody uses, and detaches it. Errors: `not-found`, `in-use`, `unavailable` where its server is gone. */
  async detach(device: Device, target: NbdTarget | null): Promise<void> {
    this.#checkAttached(device);
    const users = await this.#lastingUsersOf(device.index);
    if (users.length > 0) throw inUse(device, users);
    // One that has lost its server would hang in the flush: with new connections it does not, and without a server that is said.
    if (target !== null) {
      await this.#reconnect(device.index, target, device.backend).catch((error: unknown) => {
        if (!(error instanceof VolumeError) || error.code !== 'unavailable') throw error;
        throw new VolumeError('unavailable', `${error.message}; ${device.path} is not detached, as what it has not written yet would be lost: start the server, or give that up: basalt rescue ${device.path}`, { cause: error });
      });
      if (!device.readOnly) await this.#parts.flush(device.path);
    }
    await this.#parts.kernel.disconnect(device.index);
    if (await this.#becomesFree(device.index)) return;
    throw inUse(device, await this.#parts.devices.usersOf(device.index));
  }

  /** Those who do not go within a moment: a device that has just changed is looked at by udev. */
  async #lastingUsersOf(index: number): Promise<readonly string[]> {
    const { devices, clock } = this.#parts;
    const endMs = clock.nowMs() + PASSING_MS;
    for (;;) {
      const users = await devices.usersOf(index);
      if (users.some((user) => !user.startsWith('open in ')) || users.length === 0 || clock.nowMs() >= endMs) return users;
      await clock.sleep(LOOK_MS);
    }
  }

  /** Gives a device new connections if its server answers; else ends it, if `mayLose` says so or nobody uses it. Errors: `not-found`, `in-use`. */
  async rescue(device: Device, target: NbdTarget | null, mayLose: boolean): Promise<Rescued> {
    this.#checkAttached(device);
    const { devices, kernel } = this.#parts;
    const users = await devices.usersOf(device.index);
    if (target !== null && (await this.#isRevived(device, target))) return { device: device.path, outcome: 'reconnected', users };
    if (users.length > 0 && !mayLose) throw new VolumeError('in-use', `the server of ${device.path} does not answer, and the device is ${users.join(', ')}: what was written there and is not on the server would be lost, and its users would get I/O errors; start the server and run this again, or give it up with --yes`, { context: { device: device.path } });
    await kernel.disconnect(device.index);
    const isFree = await this.#becomesFree(device.index);
    return { device: device.path, outcome: isFree ? 'freed' : 'held', users: isFree ? [] : await devices.usersOf(device.index) };
  }

  async #isRevived(device: Device, target: NbdTarget): Promise<boolean> {
    try {
      await this.#reconnect(device.index, target, device.backend);
      return true;
    } catch (error) {
      if (error instanceof VolumeError && GONE.has(error.code)) return false;
      throw error;
    }
  }

  async #becomesFree(index: number): Promise<boolean> {
    const { devices, clock } = this.#parts;
    const endMs = clock.nowMs() + RELEASE_MS;
    for (;;) {
      if (!(await devices.find(index)).isAttached) return true;
      if (clock.nowMs() >= endMs || (await devices.usersOf(index)).length > 0) return false;
      await clock.sleep(LOOK_MS);
    }
  }

  #checkAttached({ isAttached, path }: Device): void {
    if (!isAttached) throw new VolumeError('not-found', `${path} is not attached; basalt attached lists those that are`, { context: { device: path } });
  }
}

/** The server is not there, or has not the export any more. */
const GONE: ReadonlySet<string> = new Set(['unavailable', 'not-found']);

const isReadOnly = ({ flags }: ExportTerms): boolean => (flags & NBD_FLAG_READ_ONLY) !== 0;

function checkBlockSize({ blockSizeBytes }: AttachOptions, { blockSizes, sizeBytes }: ExportTerms): void {
  const minimum = blockSizes?.minimumBytes ?? 1;
  if (minimum > BLOCK_BYTES_MAX) throw new VolumeError('unsupported', `the server takes no blocks smaller than ${minimum} bytes, and the kernel's are ${BLOCK_BYTES_MAX} at most`);
  if (blockSizeBytes < minimum) throw new VolumeError('invalid-argument', `the server takes no blocks smaller than ${minimum} bytes: attach with --block-size ${minimum}`);
  if (sizeBytes < blockSizeBytes) throw new VolumeError('invalid-argument', `the export has ${sizeBytes} bytes, less than one block of ${blockSizeBytes}`);
}

function inUse({ path }: Device, users: readonly string[]): VolumeError {
  const mount = users.find((user) => user.startsWith('mounted on '));
  const how = mount === undefined ? 'close it there' : `first: umount ${mount.slice('mounted on '.length)}`;
  return new VolumeError('in-use', `${path} is in use: ${users.length === 0 ? 'somebody has it open' : users.join(', ')}; ${how}`, { context: { device: path } });
}

function explainConnect(error: unknown, index: number | null): unknown {
  if (!(error instanceof VolumeError)) return error;
  if (error.code === 'denied') return new VolumeError('denied', 'attaching a device needs root (CAP_SYS_ADMIN): run it with sudo', { cause: error });
  if (error.code === 'in-use' && index !== null) return new VolumeError('in-use', `${devicePath(index)} is in use, or was just looked at by another program; leave the device out to take a free one`, { cause: error });
  return error;
}
