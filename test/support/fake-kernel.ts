/** A kernel's NBD client, its devices in /sys, and a server, as attaching sees them: without sockets, and without a kernel. */
import { VolumeError } from '../../src/base/errors.ts';
import { type Device, devicePath, type DeviceLookup } from '../../src/attach/devices.ts';
import type { Dialled, Dialler } from '../../src/attach/dial.ts';
import type { NbdKernel, Unsubscribe } from '../../src/attach/kernel.ts';
import type { ConnectMessage, DeviceStatus, ReconfigureMessage } from '../../src/attach/nbd-netlink.ts';
import type { ExportTerms } from '../../src/protocol/client-handshake.ts';
import { NBD_FLAG_CAN_MULTI_CONN, NBD_FLAG_HAS_FLAGS } from '../../src/protocol/constants.ts';
import type { NbdTarget } from '../../src/protocol/uri.ts';

type ConnectionState = 'open' | 'closing' | 'closed';

interface Connection {
  state: ConnectionState;
  /** Descriptors of ours that are open on it. */
  descriptors: number;
}

interface FakeDevice {
  readonly message: ConnectMessage;
  sizeBytes: number;
  connections: Connection[];
  isOpen: boolean;
}

/** A server that can be taken away. Each descriptor that it gives is accounted for: `openDescriptors` is empty when all were closed. */
export class FakeServer implements Dialler {
  isRunning = true;
  terms: ExportTerms = { sizeBytes: 1024 * 1024, flags: NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN, blockSizes: null };
  /** Why it refuses. */
  refusal: VolumeError | null = null;
  readonly connections = new Map<number, Connection>();
  dialled = 0;
  looked = 0;
  #next = 100;

  #check(target: NbdTarget): void {
    if (!this.isRunning) throw new VolumeError('unavailable', `no server answers for ${target.exportName}`);
    if (this.refusal !== null) throw this.refusal;
  }

  // oxlint-disable-next-line typescript/require-await -- it rejects
  async dial(target: NbdTarget): Promise<Dialled> {
    this.#check(target);
    this.dialled += 1;
    this.#next += 1;
    this.connections.set(this.#next, { state: 'open', descriptors: 1 });
    return { descriptor: this.#next, terms: this.terms };
  }

  // oxlint-disable-next-line typescript/require-await -- it rejects
  async look(target: NbdTarget): Promise<ExportTerms> {
    this.#check(target);
    this.looked += 1;
    return this.terms;
  }

  close(descriptor: number): void {
    if (!this.connections.delete(descriptor)) throw new Error(`descriptor ${descriptor} is not open`);
  }

  readonly stateOf = (descriptor: number): ConnectionState => {
    const connection = this.connections.get(descriptor);
    if (connection === undefined) throw new Error(`descriptor ${descriptor} is not open`);
    return connection.state;
  };
}

export class FakeKernel implements NbdKernel, DeviceLookup {
  readonly devices = new Map<number, FakeDevice>();
  readonly calls: string[] = [];
  readonly users = new Map<number, string[]>();
  readonly #server: FakeServer;
  readonly #listeners = new Set<(index: number | null) => void>();
  readonly #failures = new Set<(error: unknown) => void>();
  count = 4;
  isPrivileged = true;

  constructor(server: FakeServer) {
    this.#server = server;
  }

  #take(descriptor: number): Connection {
    const connection = this.#server.connections.get(descriptor);
    if (connection === undefined) throw new Error(`descriptor ${descriptor} is not open`);
    return connection;
  }

  // oxlint-disable-next-line typescript/require-await -- it rejects
  async connect(message: ConnectMessage): Promise<number> {
    this.calls.push(`connect ${message.index ?? 'any'} ${message.sizeBytes} over ${message.descriptors.length}`);
    if (!this.isPrivileged) throw new VolumeError('denied', 'the kernel refuses: EPERM');
    const index = message.index ?? [...Array.from({ length: this.count + 1 }).keys()].find((candidate) => !this.devices.has(candidate)) ?? this.count;
    if (this.devices.has(index)) throw new VolumeError('in-use', 'the kernel refuses: EBUSY');
    this.devices.set(index, { message, sizeBytes: message.sizeBytes, connections: message.descriptors.map((descriptor) => this.#take(descriptor)), isOpen: false });
    return index;
  }

  // oxlint-disable-next-line typescript/require-await -- it rejects
  async reconfigure({ index, backend, sizeBytes, descriptors = [] }: ReconfigureMessage): Promise<void> {
    const device = this.devices.get(index);
    if (device === undefined || backend !== device.message.backend) throw new VolumeError('io-error', 'the kernel refuses: EINVAL');
    if (sizeBytes !== undefined) device.sizeBytes = sizeBytes;
    let taken = 0;
    for (const descriptor of descriptors) {
      const dead = device.connections.findIndex(({ state }) => state !== 'open');
      if (dead === -1) break;
      device.connections[dead] = this.#take(descriptor);
      taken += 1;
    }
    this.calls.push(`reconfigure ${index} ${sizeBytes ?? ''} took ${taken} of ${descriptors.length}`);
  }

  disconnect(index: number): Promise<void> {
    this.calls.push(`disconnect ${index}`);
    const device = this.devices.get(index);
    for (const connection of device?.connections ?? []) connection.state = 'closed';
    if (device !== undefined && !this.users.has(index)) this.devices.delete(index);
    return Promise.resolve();
  }

  status(): Promise<readonly DeviceStatus[]> {
    return Promise.resolve([...this.devices.keys()].map((index) => ({ index, isConnected: true })));
  }

  watch(onDead: (index: number | null) => void, onFailed: (error: unknown) => void): Promise<Unsubscribe> {
    this.#listeners.add(onDead);
    this.#failures.add(onFailed);
    return Promise.resolve(() => {
      this.#listeners.delete(onDead);
      this.#failures.delete(onFailed);
    });
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  close(): void {
    this.calls.push('close');
  }

  /** Ends connections of a device, all of them unless one is named; the kernel tells of each. */
  kill(index: number, { state = 'closed', only }: { readonly state?: ConnectionState; readonly only?: number | undefined } = {}): void {
    const connections = this.devices.get(index)?.connections ?? [];
    connections.forEach((connection, at) => {
      if (only !== undefined && at !== only) return;
      connection.state = state;
      for (const listener of this.#listeners) listener(index);
    });
  }

  /** Messages of the kernel were lost. */
  lose(): void {
    for (const listener of this.#listeners) listener(null);
  }

  failToListen(error: unknown): void {
    for (const listener of this.#failures) listener(error);
  }

  alive(index: number): number {
    return (this.devices.get(index)?.connections ?? []).filter(({ state }) => state === 'open').length;
  }

  isModuleLoaded(): Promise<boolean> {
    return Promise.resolve(this.count > 0);
  }

  #describe(index: number): Device {
    const device = this.devices.get(index);
    const base = { index, path: devicePath(index), readOnly: false };
    if (device === undefined) return { ...base, sizeBytes: 0, isAttached: false, pid: null, backend: null };
    return { ...base, sizeBytes: device.sizeBytes, isAttached: true, pid: 1, backend: device.message.backend };
  }

  list(): Promise<Device[]> {
    return Promise.resolve([...Array.from({ length: this.count }).keys()].map((index) => this.#describe(index)));
  }

  // oxlint-disable-next-line typescript/require-await -- it rejects
  async find(index: number): Promise<Device> {
    if (index >= this.count) throw new VolumeError('not-found', `there is no ${devicePath(index)}`);
    return this.#describe(index);
  }

  usersOf(index: number): Promise<string[]> {
    return Promise.resolve(this.users.get(index) ?? []);
  }
}

/** How a call was refused: "code: message". */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof VolumeError) return `${error.code}: ${error.message}`;
    throw error;
  }
  throw new Error('it was not refused');
}
