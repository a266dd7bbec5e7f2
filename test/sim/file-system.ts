/**
 * The Env's FileSystem over a SimDisk, as one process sees it. Calls that return promises end after a random delay, so
 * that their order varies. A write takes its bytes when it ends: a caller that changes them in between is found out.
 * A sync covers the writes that had ended when it began.
 */
import { assert } from '../../src/base/assert.ts';
import { DIRECT_ALIGNMENT_BYTES, type File, type FileLock, type FileSystem, type Mapping, type OpenMode } from '../../src/env/env.ts';
import { SystemError, type FileNode, type SimDisk } from './disk.ts';
import type { Fault, FaultPolicy, FileCall, FileCallKind } from './faults.ts';
import { SECTOR_BYTES } from './file-node.ts';
import type { SimProcess } from './process.ts';
import type { SeededRandom } from './random.ts';
import { drawCallMs, type IoProfile } from './timing.ts';

/** What a call does, and what is left of it when it is cut off. */
interface Effect<T> {
  /** Done in one go at the call's end. */
  perform(): T;
  /** Done when the process dies, or an injected error strikes, in the middle of the call. */
  partly(random: SeededRandom): void;
  /** Done instead of `partly` when an injected error strikes, where that is something else. */
  fail?(random: SeededRandom, code: string): void;
  /** Takes as long as a sync, whatever its kind. */
  readonly syncs?: boolean;
  /** Done behind `perform` when bits are to turn on their way. */
  spoil?(random: SeededRandom): void;
}

export interface FileSystemOptions {
  readonly process: SimProcess;
  readonly disk: SimDisk;
  readonly locks: SimLocks;
  readonly profile: IoProfile;
  readonly faults: FaultPolicy;
}

/** The locks of all processes of the simulated machine. */
export class SimLocks {
  readonly #holders = new Map<FileNode, SimProcess>();

  take(node: FileNode, process: SimProcess): boolean {
    if (this.#holders.get(node)?.alive === true) return false;
    this.#holders.set(node, process);
    return true;
  }

  release(node: FileNode, process: SimProcess): void {
    if (this.#holders.get(node) === process) this.#holders.delete(node);
  }
}

export class SimFileSystem implements FileSystem {
  readonly #options: FileSystemOptions;
  readonly #disk: SimDisk;
  readonly #openPaths = new Map<SimFile | SimMapping, string>();

  constructor(options: FileSystemOptions) {
    this.#options = options;
    this.#disk = options.disk;
  }

  /** Paths of the files that are open, or mapped, now: whoever has closed everything leaves none. */
  openPaths(): string[] {
    return [...this.#openPaths.values()];
  }

  open(path: string, mode: OpenMode): Promise<File> {
    const perform = (): SimFile => {
      if (mode === 'uncached' && this.#options.profile.refusesUncached) throw new SystemError('EINVAL', `${path} cannot be written past the page cache`);
      const node = mode === 'create' ? this.#disk.createFile(path) : this.#disk.findFile(path);
      const file = new SimFile({ owner: this, disk: this.#disk, node, path, mode });
      this.#openPaths.set(file, path);
      return file;
    };
    // A call that is cut off opens nothing, but it may have made the file.
    const partly = (random: SeededRandom): void => {
      if (mode === 'create' && random.chance(0.5)) attempt(() => this.#disk.createFile(path));
    };
    return this.call(mode === 'create' ? 'create' : 'open', path, 0, 0, { perform, partly });
  }

  map(path: string, lengthBytes: number): Promise<Mapping> {
    return this.call('map', path, 0, lengthBytes, harmless(() => {
      const mapping = new SimMapping({ owner: this, disk: this.#disk, node: this.#disk.findFile(path), path, lengthBytes });
      this.#openPaths.set(mapping, path);
      return mapping;
    }));
  }

  list(path: string): Promise<string[]> {
    return this.call('list', path, 0, 0, harmless(() => [...this.#disk.findDirectory(path).entries.keys()].sort()));
  }

  makeDirectory(path: string): Promise<void> {
    return this.call('make-directory', path, 0, 0, maybeDone(() => this.#disk.makeDirectory(path)));
  }

  rename(source: string, target: string): Promise<void> {
    return this.call('rename', `${source} to ${target}`, 0, 0, maybeDone(() => this.#disk.rename(source, target)));
  }

  remove(path: string): Promise<void> {
    return this.call('remove', path, 0, 0, maybeDone(() => this.#disk.remove(path)));
  }

  removeTree(path: string): Promise<void> {
    return this.call('remove-tree', path, 0, 0, maybeDone(() => this.#disk.removeTree(path)));
  }

  syncDirectory(path: string): Promise<void> {
    const start = this.#disk.sequence;
    return this.call('sync-directory', path, 0, 0, harmless(() => this.#disk.makeNamesDurable(this.#disk.findDirectory(path), start)));
  }

  exists(path: string): Promise<boolean> {
    return this.call('exists', path, 0, 0, harmless(() => this.#disk.find(path) !== undefined));
  }

  usedBytes(path: string): Promise<number> {
    return this.call('used-bytes', path, 0, 0, harmless(() => this.#disk.usedBytes(path)));
  }

  lock(path: string): Promise<FileLock | null> {
    const { process, locks } = this.#options;
    return this.call('lock', path, 0, 0, maybeDone(() => {
      const node = this.#disk.find(path) === undefined ? this.#disk.createFile(path) : this.#disk.findFile(path);
      if (!locks.take(node, process)) return null;
      return {
        release: () => this.call('close', path, 0, 0, harmless(() => locks.release(node, process))),
      };
    }));
  }

  forget(file: SimFile | SimMapping): void {
    this.#openPaths.delete(file);
  }

  /** One call that returns a promise. Never settles if the process dies before its end. */
  call<T>(kind: FileCallKind, path: string, offsetBytes: number, lengthBytes: number, effect: Effect<T>): Promise<T> {
    const { process, profile } = this.#options;
    return new Promise<T>((resolve, reject) => {
      if (!process.alive) return;
      const call = { kind, path, offsetBytes, lengthBytes, inTurn: false };
      const fault = this.#announce(call);
      if (fault?.kind === 'crash' && fault.when === 'before') {
        process.die();
        return;
      }
      const inFlight = { abandon: (random: SeededRandom) => effect.partly(random) };
      process.begin(inFlight);
      if (fault?.kind === 'crash' && fault.when === 'during') {
        process.die();
        return;
      }
      const isSync = kind === 'sync' || kind === 'sync-directory' || effect.syncs === true;
      const extraMs = fault?.kind === 'slow' ? fault.delayMs : 0;
      process.after(extraMs + drawCallMs(process.random, profile, isSync ? 'sync' : 'call'), () => {
        process.end(inFlight);
        this.#finish(effect, fault, call, resolve, reject);
      });
    });
  }

  /** One call that ends within the turn; without effect once the process is dead. */
  callNow(kind: FileCallKind, path: string, offsetBytes: number, lengthBytes: number, effect: Effect<void>): void {
    const { process, profile, faults } = this.#options;
    if (!process.alive) return;
    const call = { kind, path, offsetBytes, lengthBytes, inTurn: true };
    const fault = this.#announce(call);
    const extraMs = fault?.kind === 'slow' ? fault.delayMs : 0;
    process.scheduler.spend(extraMs + drawCallMs(process.random, profile, kind === 'sync' || effect.syncs === true ? 'sync' : 'in-turn'));
    if (fault?.kind === 'error') {
      failEffect(effect, process.random, fault.code);
      faults.delivered?.(call, fault);
      throw new SystemError(fault.code, `${kind} ${path}: injected fault`);
    }
    if (fault?.kind === 'crash' && fault.when === 'during') effect.partly(process.random);
    else if (fault?.kind !== 'crash' || fault.when === 'after') effect.perform();
    if (fault?.kind === 'crash') process.die();
  }

  #finish<T>(
    effect: Effect<T>,
    fault: Fault | null,
    call: FileCall,
    resolve: (value: T) => void,
    reject: (error: Error) => void,
  ): void {
    const { process, faults } = this.#options;
    if (fault?.kind === 'error') {
      failEffect(effect, process.random, fault.code);
      faults.delivered?.(call, fault);
      reject(new SystemError(fault.code, `${call.kind} ${call.path}: injected fault`));
      return;
    }
    let value: T;
    try {
      value = effect.perform();
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      process.trace.event('  fails', failure.message);
      faults.failed?.(call);
      reject(failure);
      return;
    }
    if (fault?.kind === 'rot') {
      effect.spoil?.(process.random);
      faults.delivered?.(call, fault);
    }
    if (fault?.kind === 'crash') process.die();
    else resolve(value);
  }

  #announce(call: FileCall): Fault | null {
    const { process, faults } = this.#options;
    process.trace.event(call.inTurn ? `${call.kind} now` : call.kind, call.path, call.offsetBytes, call.lengthBytes);
    const fault = faults.decide(call);
    if (fault !== null) process.trace.event(describeFault(fault), call.path);
    return fault;
  }
}

interface SimFileOptions {
  readonly owner: SimFileSystem;
  readonly disk: SimDisk;
  readonly node: FileNode;
  readonly path: string;
  readonly mode: OpenMode;
}

class SimFile implements File {
  readonly #options: SimFileOptions;
  #open = true;

  constructor(options: SimFileOptions) {
    this.#options = options;
  }

  write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    this.#checkOpen(true);
    const { owner, path } = this.#options;
    return owner.call('write', path, offsetBytes, lengthOf(parts), this.#writing(parts, offsetBytes));
  }

  writeNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    this.#checkOpen(true);
    const { owner, path } = this.#options;
    owner.callNow('write', path, offsetBytes, lengthOf(parts), this.#writing(parts, offsetBytes));
  }

  read(target: Uint8Array, offsetBytes: number): Promise<number> {
    this.#checkOpen(false);
    const { owner, path, node } = this.#options;
    let length = 0;
    return owner.call('read', path, offsetBytes, target.length, {
      perform: () => {
        length = node.read(target, offsetBytes);
        return length;
      },
      partly: () => undefined,
      spoil: (random) => {
        if (length > 0) target[random.below(length)] ^= 1 << random.below(8);
      },
    });
  }

  sync(): Promise<void> {
    this.#checkOpen(false);
    const { owner, path } = this.#options;
    return owner.call('sync', path, 0, 0, this.#syncing());
  }

  syncNow(): void {
    this.#checkOpen(false);
    const { owner, path } = this.#options;
    owner.callNow('sync', path, 0, 0, this.#syncing());
  }

  sizeBytes(): Promise<number> {
    this.#checkOpen(false);
    const { owner, path, node } = this.#options;
    return owner.call('size', path, 0, 0, harmless(() => node.sizeBytes));
  }

  close(): Promise<void> {
    this.#checkOpen(false);
    this.#open = false;
    const { owner, path } = this.#options;
    owner.forget(this);
    return owner.call('close', path, 0, 0, harmless(() => undefined));
  }

  #writing(parts: readonly Uint8Array[], offsetBytes: number): Effect<void> {
    const { disk, node, mode } = this.#options;
    const isDirect = mode === 'direct';
    if (isDirect || mode === 'uncached') checkAlignment(parts, offsetBytes);
    return {
      syncs: isDirect,
      perform: () => {
        const bytes = join(parts);
        if (isDirect) node.beginDirectWrite(bytes, offsetBytes);
        if (mode === 'uncached') node.dropPages(bytes, offsetBytes);
        disk.write(node, bytes, offsetBytes, isDirect);
        // What is left of direct writes that were cut off is covered by this one, their repetition, or counts for nothing.
        if (isDirect) node.makeDurable(disk.sequence);
      },
      // A direct write that is cut off is an unsynced one: the device may lose it, whole or in part.
      partly: (random) => {
        const bytes = join(parts);
        const sectors = Math.ceil((offsetBytes + bytes.length) / SECTOR_BYTES) - Math.floor(offsetBytes / SECTOR_BYTES);
        const endBytes = (Math.floor(offsetBytes / SECTOR_BYTES) + random.between(0, sectors)) * SECTOR_BYTES;
        const done = Math.min(bytes.length, Math.max(0, endBytes - offsetBytes));
        if (isDirect) node.beginDirectWrite(bytes, offsetBytes);
        attempt(() => disk.write(node, bytes.subarray(0, done), offsetBytes, isDirect));
      },
    };
  }

  #syncing(): Effect<void> {
    const { disk, node } = this.#options;
    const start = disk.sequence;
    return {
      perform: () => node.makeDurable(start),
      partly: () => undefined,
      fail: (random) => {
        const chance = random.pick([0, 0.5, 1]);
        node.failSync(start, () => random.chance(chance));
      },
    };
  }

  #checkOpen(forWriting: boolean): void {
    if (!this.#open) throw new SystemError('EBADF', `${this.#options.path} is closed`);
    if (forWriting && this.#options.mode === 'read') throw new SystemError('EBADF', `${this.#options.path} is open for reading only`);
  }
}

interface SimMappingOptions {
  readonly owner: SimFileSystem;
  readonly disk: SimDisk;
  readonly node: FileNode;
  readonly path: string;
  readonly lengthBytes: number;
}

/**
 * A copy into a mapping is a plain write for the disk: the page cache has it, and a power cut loses or tears its sectors until a sync. Two things
 * differ: a process that dies within one leaves any number of its bytes, and one behind the file's end is the process's death by SIGBUS, which
 * no engine may come to: a broken assertion ends the world.
 */
class SimMapping implements Mapping {
  readonly #options: SimMappingOptions;
  #open = true;

  constructor(options: SimMappingOptions) {
    this.#options = options;
  }

  copyNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    const { owner, disk, node, path, lengthBytes } = this.#options;
    const endBytes = offsetBytes + lengthOf(parts);
    assert(this.#open, `${path} is written through a mapping that is gone`);
    owner.callNow('copy', path, offsetBytes, endBytes - offsetBytes, {
      // Not before: a process that has just died no longer gets so far, and its file may have been cut by a power cut since.
      perform: () => {
        assert(endBytes <= Math.min(lengthBytes, node.sizeBytes), `SIGBUS: ${path} is written through its mapping up to byte ${endBytes}, and has ${node.sizeBytes}`);
        disk.write(node, join(parts), offsetBytes);
      },
      partly: (random) => disk.write(node, join(parts).subarray(0, random.between(0, endBytes - offsetBytes)), offsetBytes),
    });
  }

  close(): Promise<void> {
    const { owner, path } = this.#options;
    this.#open = false;
    owner.forget(this);
    return owner.call('close', path, 0, 0, harmless(() => undefined));
  }
}

/** What a kernel answers to a direct write of anything but whole pages. Of memory only its place in its buffer can be seen. */
function checkAlignment(parts: readonly Uint8Array[], offsetBytes: number): void {
  const numbers = [offsetBytes, ...parts.flatMap((part) => [part.length, part.byteOffset])];
  if (numbers.some((number) => number % DIRECT_ALIGNMENT_BYTES !== 0)) throw new SystemError('EINVAL', `a direct write of ${numbers.join(', ')} bytes`);
}

/** A call that leaves nothing behind when it is cut off. */
function harmless<T>(perform: () => T): Effect<T> {
  return { perform, partly: () => undefined };
}

/** A call that is done whole or not at all when it is cut off. */
function maybeDone<T>(perform: () => T): Effect<T> {
  return {
    perform,
    partly: (random) => {
      if (random.chance(0.5)) attempt(perform);
    },
    // A name that finds no space was not made; what the disk failed may have happened all the same.
    fail: (random, code) => {
      if (code !== 'ENOSPC' && random.chance(0.5)) attempt(perform);
    },
  };
}

/** An injected error strikes. */
function failEffect(effect: Effect<unknown>, random: SeededRandom, code: string): void {
  if (effect.fail === undefined) effect.partly(random);
  else effect.fail(random, code);
}

function describeFault(fault: Fault): string {
  switch (fault.kind) {
    case 'error':
      return `  fault ${fault.code}`;
    case 'crash':
      return `  crash ${fault.when}`;
    case 'slow':
    case 'rot':
      return `  fault ${fault.kind}`;
  }
}

/** Does what would have been done; if it would have failed, nobody is left to hear of it. */
function attempt(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}
