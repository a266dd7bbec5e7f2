/** What the verbs about devices do: by netlink, or by nbd-client where that is out of reach. */
import { systemCode, VolumeError } from '../base/errors.ts';
import type { LogFields, LogLevel } from '../env/env.ts';
import { NBD_FLAG_READ_ONLY } from '../protocol/constants.ts';
import { formatNbdUri, type NbdTarget, parseNbdUri } from '../protocol/uri.ts';
import { Agent, type AgentParts } from './agent.ts';
import { type AttachOptions, type Attached, Attacher, type AttacherParts, type Rescued } from './attacher.ts';
import { type Device, parseDeviceName } from './devices.ts';
import type { NbdKernel } from './kernel.ts';
import { loadModule, nbdClientWords, runNbdClient, type RunProgram } from './programs.ts';

/** How often an agent that starts before its server looks for it. */
const AWAIT_SERVER_MS = 1000;

export interface AttachToolsParts extends Omit<AttacherParts, 'kernel'> {
  /** Throws `ENOSYS` where netlink cannot be spoken, rejects with `not-found` where the kernel does not listen. */
  readonly openKernel: () => Promise<NbdKernel>;
  readonly run: RunProgram;
  readonly stateOf: AgentParts['stateOf'];
  readonly warn: (text: string) => void;
}

export interface ListedDevice extends Device {
  readonly users: readonly string[];
}

export interface SuperviseOptions {
  readonly sizeCheckMs: number;
  /** Leave the device attached at the end. */
  readonly keep: boolean;
  readonly stop: Promise<string>;
  readonly log: (level: LogLevel, event: string, fields: LogFields) => void;
  readonly onAttached: (attached: AttachedBy) => void;
}

export interface AttachedBy extends Attached {
  readonly via: 'netlink' | 'nbd-client';
}

export interface Supervised {
  readonly device: string;
  /** `kept`: it was asked for, or the device is in use. `ended`: somebody else has detached it. `not-attached`: there was no server, ever. */
  readonly end: 'detached' | 'kept' | 'ended' | 'not-attached';
  readonly pauses: number;
  readonly longestPauseMs: number;
}

export class AttachTools {
  readonly #parts: AttachToolsParts;

  constructor(parts: AttachToolsParts) {
    this.#parts = parts;
  }

  /** Errors: those of `Attacher.attach`, and `unsupported` where there is no module. */
  async attach(options: AttachOptions): Promise<AttachedBy> {
    const kernel = await this.#openKernel('nbd-client attaches the device: a restart of the server will not be survived');
    if (kernel === null) return this.#attachByProgram(options);
    try {
      return { ...(await this.#attacher(kernel).attach(options)), via: 'netlink' };
    } finally {
      kernel.close();
    }
  }

  /** Attaches, and stays until `stop` resolves or somebody detaches the device. While there is no server it waits for one. */
  async supervise(options: AttachOptions, supervision: SuperviseOptions): Promise<Supervised> {
    const kernel = await this.#openKernel('');
    if (kernel === null) throw new VolumeError('unsupported', '--supervise speaks netlink, which is out of reach: npm install koffi (an optional package of basalt) where basalt is installed, on Linux 4.13 or later');
    try {
      return await this.#supervise(kernel, options, supervision);
    } finally {
      kernel.close();
    }
  }

  async #supervise(kernel: NbdKernel, options: AttachOptions, supervision: SuperviseOptions): Promise<Supervised> {
    const { stop, log, keep, sizeCheckMs, onAttached } = supervision;
    const { dialler, clock, stateOf, devices } = this.#parts;
    let isStopped = false;
    const stopped = stop.then(() => {
      isStopped = true;
    });
    const attacher = this.#attacher(kernel);
    const kept: number[] = [];
    const attached = await this.#attachPatiently(() => attacher.attach(options, (descriptors) => kept.push(...descriptors)), stopped, log);
    if (attached === null) return { device: '', end: 'not-attached', pauses: 0, longestPauseMs: 0 };
    onAttached({ ...attached, via: 'netlink' });
    const { backend } = await devices.find(attached.index);
    const isAttached = async (): Promise<boolean> => {
      const device = await devices.find(attached.index);
      return device.isAttached && device.backend === backend;
    };
    const agent = new Agent({ ...options, ...attached, backend, sizeCheckMs }, { kernel, dialler, clock, stateOf, isAttached, log }, kept);
    const stopping = stopped.then(() => agent.stop());
    const end = await agent.run();
    if (end === 'detached') return { device: attached.device, end: 'ended', ...agent.report };
    if (isStopped) await stopping;
    const isLeft = keep || !(await this.#detachIfIdle(attacher, attached.index, options.target, log));
    return { device: attached.device, end: isLeft ? 'kept' : 'detached', ...agent.report };
  }

  /** Null: it was stopped before there was a server. */
  async #attachPatiently(attach: () => Promise<Attached>, stopped: Promise<void>, log: SuperviseOptions['log']): Promise<Attached | null> {
    for (let told = ''; ; ) {
      try {
        return await attach();
      } catch (error) {
        if (!(error instanceof VolumeError) || error.code !== 'unavailable') throw error;
        if (error.message !== told) log('warn', 'no-server', { reason: error.message });
        told = error.message;
      }
      if ((await Promise.race([stopped.then(() => 'stopped'), this.#parts.clock.sleep(AWAIT_SERVER_MS)])) === 'stopped') return null;
    }
  }

  /** False: it is in use, or what it holds cannot be written, and it is left as it is. */
  async #detachIfIdle(attacher: Attacher, index: number, target: NbdTarget, log: SuperviseOptions['log']): Promise<boolean> {
    try {
      await attacher.detach(await this.#parts.devices.find(index), target);
      return true;
    } catch (error) {
      if (!(error instanceof VolumeError) || (error.code !== 'in-use' && error.code !== 'unavailable')) throw error;
      log('warn', 'left-attached', { reason: error.message });
      return false;
    }
  }

  /** Errors: those of `Attacher.detach`, and of `find`. */
  async detach(what: string, server: NbdTarget): Promise<Device> {
    const device = await this.find(what, server);
    const kernel = await this.#openKernel('nbd-client detaches the device');
    if (kernel === null) {
      await this.#detachByProgram(device);
      return device;
    }
    try {
      await this.#attacher(kernel).detach(device, targetOf(device));
      return device;
    } finally {
      kernel.close();
    }
  }

  /** Errors: those of `Attacher.rescue`, and of `find`. */
  async rescue(what: string, server: NbdTarget, mayLose: boolean): Promise<Rescued> {
    const device = await this.find(what, server);
    const kernel = await this.#openKernel('nbd-client frees the device');
    if (kernel === null) {
      const users = await this.#parts.devices.usersOf(device.index);
      if (users.length > 0 && !mayLose) throw new VolumeError('in-use', `${device.path} is ${users.join(', ')}: what was written there and is not on the server would be lost; give it up with --yes`);
      await runNbdClient(this.#parts.run, ['-d', device.path]);
      return { device: device.path, outcome: users.length === 0 ? 'freed' : 'held', users };
    }
    try {
      return await this.#attacher(kernel).rescue(device, targetOf(device), mayLose);
    } finally {
      kernel.close();
    }
  }

  /** Devices with who uses them; of all only if `all`. */
  async list({ all }: { readonly all: boolean }): Promise<ListedDevice[]> {
    const { devices } = this.#parts;
    const shown = (await devices.list()).filter(({ isAttached }) => isAttached || all);
    return Promise.all(shown.map(async (device) => ({ ...device, users: device.isAttached ? await devices.usersOf(device.index) : [] })));
  }

  /** The device of a name: `/dev/nbdN`, `nbdN`, a URI, or the name of an export. Rejects with `not-found`, `invalid-argument`. */
  async find(what: string, server: NbdTarget): Promise<Device> {
    const { devices } = this.#parts;
    const index = parseDeviceName(what);
    if (index !== null) return devices.find(index);
    if (what.startsWith('/')) throw new VolumeError('invalid-argument', `${what} is no NBD device: write /dev/nbdN, the name of an export, or its URI`);
    const attached = (await devices.list()).filter(({ isAttached }) => isAttached);
    const uri = formatNbdUri(targetFor(what, server));
    const exact = attached.find(({ backend }) => backend === uri);
    const named = attached.filter((device) => targetOf(device)?.exportName === what);
    if (exact === undefined && named.length > 1) throw new VolumeError('invalid-argument', `${named.length} devices have an export ${JSON.stringify(what)}: name one of ${named.map(({ path }) => path).join(', ')}`);
    const found = exact ?? named.at(0);
    if (found === undefined) throw new VolumeError('not-found', `${JSON.stringify(what)} is not attached; basalt attached lists what is`, { context: { export: what } });
    return found;
  }

  #attacher(kernel: NbdKernel): Attacher {
    return new Attacher({ ...this.#parts, kernel });
  }

  /** Null: netlink is out of reach; then `instead` was said. */
  async #openKernel(instead: string): Promise<NbdKernel | null> {
    const { devices, run, openKernel, warn } = this.#parts;
    if (!(await devices.isModuleLoaded())) await loadModule(run);
    try {
      return await openKernel();
    } catch (error) {
      const isOld = error instanceof VolumeError && error.code === 'not-found';
      if (!isOld && systemCode(error) !== 'ENOSYS') throw error;
      const why = error instanceof Error ? error.message.replace(/^ENOSYS: /, '') : '';
      if (instead !== '') warn(`${why}; ${instead}`);
      return null;
    }
  }

  async #attachByProgram(options: AttachOptions): Promise<AttachedBy> {
    const { devices, dialler, run } = this.#parts;
    const { flags, sizeBytes } = await dialler.look(options.target);
    const free = (await devices.list()).find((device) => !device.isAttached && device.sizeBytes === 0 && (options.index === null || options.index === device.index));
    if (free === undefined) throw new VolumeError('in-use', options.index === null ? 'every NBD device is in use; basalt attached lists them' : `/dev/nbd${options.index} is in use, or is not there; basalt attached --all lists them`);
    await runNbdClient(run, nbdClientWords(options, free.path));
    return { device: free.path, index: free.index, uri: formatNbdUri(options.target), sizeBytes, readOnly: (flags & NBD_FLAG_READ_ONLY) !== 0, isNew: true, via: 'nbd-client' };
  }

  async #detachByProgram(device: Device): Promise<void> {
    if (!device.isAttached) throw new VolumeError('not-found', `${device.path} is not attached; basalt attached lists those that are`);
    const users = await this.#parts.devices.usersOf(device.index);
    if (users.length > 0) throw new VolumeError('in-use', `${device.path} is in use: ${users.join(', ')}`);
    await runNbdClient(this.#parts.run, ['-d', device.path]);
  }
}

/** What a device is attached to; null if that is not known, or spelled in another program's way. */
function targetOf({ backend }: Device): NbdTarget | null {
  if (backend === null || !backend.startsWith('nbd')) return null;
  try {
    return parseNbdUri(backend);
  } catch (error) {
    if (error instanceof VolumeError) return null;
    throw error;
  }
}

/** The export that a URI names, or the one of that name at `server`. */
export function targetFor(what: string, server: NbdTarget): NbdTarget {
  return what.includes('://') ? parseNbdUri(what) : { ...server, exportName: what };
}
