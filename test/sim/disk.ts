/**
 * The simulated disk: a tree of directories and files that outlives the simulated processes.
 *
 * Fault model. A process crash loses nothing that was handed to the kernel. A power cut may lose whatever was not synced:
 * - bytes and lengths of a file, until a sync of the file that began after the write (`file-node.ts`);
 * - creations, renames and removals, each on its own and in any order, until a sync of their directory: the sync of a
 *   file makes its content durable, not its name. A rename within a directory is atomic.
 * The failed sync of a file leaves pages that are never written any more and may go at any time (`file-node.ts`); that of a
 * directory leaves its changes as they were.
 */
import { FileNode, type PowerCutFate } from './file-node.ts';

export { FileNode } from './file-node.ts';

/** An error as the operating system reports one. */
export class SystemError extends Error {
  readonly code: string;

  constructor(code: string, what: string) {
    super(`${code}: ${what}`);
    this.code = code;
  }
}

export type DiskNode = FileNode | DirectoryNode;

export class DirectoryNode {
  readonly kind = 'directory';
  /** What a process sees. */
  entries = new Map<string, DiskNode>();
  /** What is on the medium. */
  durable = new Map<string, DiskNode>();
}

/** One change of names that is not durable yet. */
interface NameChange {
  readonly sequence: number;
  bindings: readonly Binding[];
}

interface Binding {
  readonly directory: DirectoryNode;
  readonly name: string;
  readonly node: DiskNode | null;
}

interface Place {
  readonly directory: DirectoryNode;
  readonly name: string;
}

/** The capacity of a disk that never runs full. */
export const UNLIMITED = Number.MAX_SAFE_INTEGER;

export class SimDisk {
  #root = new DirectoryNode();
  #changes: NameChange[] = [];
  #sequence = 0;
  #nextFileId = 1;
  /** Bytes that all files together may take. */
  capacityBytes = UNLIMITED;

  /** The place of the next change in the order of all changes: what a sync that begins now covers is below it. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Bytes of all files in a directory and below it. */
  usedBytes(path = '/'): number {
    let used = 0;
    for (const file of filesBelow(this.findDirectory(path))) used += file.sizeBytes;
    return used;
  }

  find(path: string): DiskNode | undefined {
    let node: DiskNode | undefined = this.#root;
    for (const name of partsOf(path)) {
      if (node?.kind !== 'directory') return undefined;
      node = node.entries.get(name);
    }
    return node;
  }

  findFile(path: string): FileNode {
    const node = this.find(path);
    if (node === undefined) throw new SystemError('ENOENT', path);
    if (node.kind !== 'file') throw new SystemError('EISDIR', path);
    return node;
  }

  findDirectory(path: string): DirectoryNode {
    const node = this.find(path);
    if (node === undefined) throw new SystemError('ENOENT', path);
    if (node.kind !== 'directory') throw new SystemError('ENOTDIR', path);
    return node;
  }

  createFile(path: string): FileNode {
    const place = this.#placeOf(path);
    if (place.directory.entries.has(place.name)) throw new SystemError('EEXIST', path);
    const node = new FileNode(this.#nextFileId);
    this.#nextFileId += 1;
    this.#change([{ ...place, node }]);
    return node;
  }

  makeDirectory(path: string): void {
    const place = this.#placeOf(path);
    if (place.directory.entries.has(place.name)) throw new SystemError('EEXIST', path);
    this.#change([{ ...place, node: new DirectoryNode() }]);
  }

  rename(source: string, target: string): void {
    const from = this.#placeOf(source);
    const to = this.#placeOf(target);
    const node = from.directory.entries.get(from.name);
    if (node === undefined) throw new SystemError('ENOENT', source);
    const replaced = to.directory.entries.get(to.name);
    if (replaced === node) return;
    if (replaced !== undefined && replaced.kind !== node.kind) throw new SystemError(replaced.kind === 'directory' ? 'EISDIR' : 'ENOTDIR', target);
    if (replaced?.kind === 'directory' && replaced.entries.size > 0) throw new SystemError('ENOTEMPTY', target);
    this.#change([
      { ...from, node: null },
      { ...to, node },
    ]);
  }

  remove(path: string): void {
    const place = this.#placeOf(path);
    const node = place.directory.entries.get(place.name);
    if (node === undefined) throw new SystemError('ENOENT', path);
    if (node.kind === 'directory') throw new SystemError('EISDIR', path);
    this.#change([{ ...place, node: null }]);
  }

  /** Removes a directory and all below it, deepest first, one change for each name. */
  removeTree(path: string): void {
    const directory = this.findDirectory(path);
    for (const [name, node] of directory.entries) {
      if (node.kind === 'directory') this.removeTree(`${path}/${name}`);
      else this.#change([{ directory, name, node: null }]);
    }
    this.#change([{ ...this.#placeOf(path), node: null }]);
  }

  /** Writes as much as there is room for; ENOSPC when that is not all. */
  write(node: FileNode, bytes: Uint8Array, offsetBytes: number, isDirect = false): void {
    let fits = bytes.length;
    if (this.capacityBytes !== UNLIMITED && offsetBytes + bytes.length > node.sizeBytes) {
      const room = this.capacityBytes - this.usedBytes();
      if (offsetBytes + bytes.length - node.sizeBytes > room) fits = Math.max(0, node.sizeBytes + Math.max(0, room) - offsetBytes);
    }
    this.#sequence += 1;
    node.write(bytes.subarray(0, fits), offsetBytes, this.#sequence, isDirect);
    if (fits < bytes.length) throw new SystemError('ENOSPC', 'no space left on the simulated disk');
  }

  /** The end of a sync of a directory that began at `sequence`. */
  makeNamesDurable(directory: DirectoryNode, sequence: number): void {
    for (const change of this.#changes) {
      if (change.sequence > sequence) break;
      for (const binding of change.bindings) {
        if (binding.directory === directory) bind(directory.durable, binding);
      }
      change.bindings = change.bindings.filter((binding) => binding.directory !== directory);
    }
    this.#changes = this.#changes.filter((change) => change.bindings.length > 0);
  }

  /** The places of all changes that a power cut may lose, in rising order. */
  unsyncedSequences(): number[] {
    const sequences = this.#changes.map((change) => change.sequence);
    const files = new Set<FileNode>([...filesBelow(this.#root), ...this.#filesOfChanges()]);
    for (const file of files) sequences.push(...file.unsyncedSequences);
    return sequences.sort((left, right) => left - right);
  }

  cutPower(fate: PowerCutFate): void {
    for (const change of this.#changes) {
      if (!fate.keepsName(change.sequence)) continue;
      for (const binding of change.bindings) bind(binding.directory.durable, binding);
    }
    this.#changes = [];
    restore(this.#root);
    for (const file of new Set(filesBelow(this.#root))) file.cutPower(fate);
  }

  /** A copy that goes its own way: what a crash at this moment finds. `copies` gets the copy of each node. */
  clone(copies = new Map<DiskNode, DiskNode>()): SimDisk {
    const copyOf = (node: DiskNode): DiskNode => {
      const known = copies.get(node);
      if (known !== undefined) return known;
      if (node.kind === 'file') {
        const file = node.clone();
        copies.set(node, file);
        return file;
      }
      const directory = new DirectoryNode();
      copies.set(node, directory);
      for (const [name, entry] of node.entries) directory.entries.set(name, copyOf(entry));
      for (const [name, entry] of node.durable) directory.durable.set(name, copyOf(entry));
      return directory;
    };
    const disk = new SimDisk();
    const root = copyOf(this.#root);
    if (root.kind === 'directory') disk.#root = root;
    disk.#changes = this.#changes.map(({ sequence, bindings }) => ({
      sequence,
      bindings: bindings.map((binding) => {
        const directory = copyOf(binding.directory);
        return { ...binding, directory: directory.kind === 'directory' ? directory : binding.directory, node: binding.node === null ? null : copyOf(binding.node) };
      }),
    }));
    disk.#sequence = this.#sequence;
    disk.#nextFileId = this.#nextFileId;
    disk.capacityBytes = this.capacityBytes;
    return disk;
  }

  /** The kernel needs memory: of pages whose sync failed it drops those that `drops` says. True if there were any. */
  dropForgotten(drops: (page: number) => boolean): boolean {
    let found = false;
    for (const file of new Set(filesBelow(this.#root))) {
      if (!file.hasForgotten) continue;
      found = true;
      file.dropForgotten(drops);
    }
    return found;
  }

  #filesOfChanges(): FileNode[] {
    return this.#changes.flatMap((change) => change.bindings.flatMap(({ node }) => (node?.kind === 'file' ? [node] : [])));
  }

  #placeOf(path: string): Place {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) throw new SystemError('EINVAL', path);
    return { directory: this.findDirectory(`/${parts.join('/')}`), name };
  }

  #change(bindings: readonly Binding[]): void {
    for (const binding of bindings) bind(binding.directory.entries, binding);
    this.#sequence += 1;
    this.#changes.push({ sequence: this.#sequence, bindings });
  }
}

function bind(entries: Map<string, DiskNode>, binding: Binding): void {
  if (binding.node === null) entries.delete(binding.name);
  else entries.set(binding.name, binding.node);
}

function restore(directory: DirectoryNode): void {
  directory.entries = new Map(directory.durable);
  for (const node of directory.entries.values()) if (node.kind === 'directory') restore(node);
}

function* filesBelow(directory: DirectoryNode): Generator<FileNode> {
  for (const node of directory.entries.values()) {
    if (node.kind === 'file') yield node;
    else yield* filesBelow(node);
  }
}

function partsOf(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (!path.startsWith('/') || parts.includes('..')) throw new SystemError('EINVAL', `${path} is not an absolute path`);
  return parts;
}
