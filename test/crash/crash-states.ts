/**
 * What a crash may leave of a traced server's files. Its changes are played, up to a moment, on the simulator's disk, whose model
 * of a power cut then decides what of the unsynced ones is kept: writes and lengths of each file, torn at sectors, and names
 * in each directory. So the simulator's disk is also held against the kernel: played to the end it must equal the real files.
 */
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DirectoryNode, type DiskNode, SimDisk } from '../sim/disk.ts';
import { FileNode, SECTOR_BYTES } from '../sim/file-node.ts';
import { POWER_CUT_MODES, drawPowerCut } from '../sim/power-cut.ts';
import type { SeededRandom } from '../sim/random.ts';
import { type FileChange, isServersOwn } from './file-trace.ts';

/** What crashes: the process, whose writes are with the kernel, or the machine. */
export const CRASHES = ['process', ...POWER_CUT_MODES] as const;
export type Crash = (typeof CRASHES)[number];

/** Syncs that are taken for not made: what a server that forgot them would have left. To show that this test finds it. */
export type IgnoredSyncs = 'none' | 'directories' | 'files';

interface Step {
  readonly at: number;
  readonly change: FileChange;
  readonly part: 'begin' | 'end';
}

export class CrashStates {
  readonly #steps: readonly Step[];
  readonly #ignored: IgnoredSyncs;
  /** Has played the first `#played` steps: for the next crash point, if it is no earlier one. */
  #player: Player;
  #played = 0;

  constructor(changes: readonly FileChange[], ignored: IgnoredSyncs) {
    this.#ignored = ignored;
    this.#player = new Player(ignored, new SimDisk());
    const open = changes.find(({ ended }) => ended === Infinity);
    // It could be carried out in a life after its own.
    if (open !== undefined) throw new Error(`${open.kind} of ${open.path} has no end: its life is not settled`);
    const steps = changes.flatMap((change): Step[] => [
      { at: change.began, change, part: 'begin' },
      { at: change.ended, change, part: 'end' },
    ]);
    // A call that was traced in one line begins and ends there, in this order.
    this.#steps = steps.toSorted((left, right) => left.at - right.at || (left.part === right.part ? 0 : left.part === 'begin' ? -1 : 1));
  }

  /** How many crash points there are: before the first step, and behind each. */
  get points(): number {
    return this.#steps.length + 1;
  }

  /** The place in the trace of a crash behind the first `point` steps: what has its place at or before it has happened. */
  placeOf(point: number): number {
    return point < this.#steps.length ? this.#steps[point].at - 0.5 : Infinity;
  }

  /** The disk after a crash behind the first `point` steps. Quick where points are asked for in rising order. */
  after(point: number, crash: Crash, random: SeededRandom): SimDisk {
    const player = this.#playTo(point).clone();
    player.interrupt(random);
    if (crash !== 'process') player.disk.cutPower(drawPowerCut(random, player.disk.unsyncedSequences(), crash));
    return player.disk;
  }

  /** The disk after all of it, without another crash than those that are in the trace. */
  atTheEnd(): SimDisk {
    return this.#playTo(this.#steps.length).clone().disk;
  }

  #playTo(point: number): Player {
    if (point < this.#played) {
      this.#player = new Player(this.#ignored, new SimDisk());
      this.#played = 0;
    }
    for (const step of this.#steps.slice(this.#played, point)) this.#player.play(step);
    this.#played = point;
    return this.#player;
  }
}

/** A call under way, with the node that its path meant when it began: a rename meanwhile changes the path, not the node. */
interface UnderWay {
  readonly node: FileNode | DirectoryNode | undefined;
  readonly sequence: number;
}

class Player {
  readonly disk: SimDisk;
  readonly #ignored: IgnoredSyncs;
  readonly #underWay = new Map<FileChange, UnderWay>();

  constructor(ignored: IgnoredSyncs, disk: SimDisk) {
    this.#ignored = ignored;
    this.disk = disk;
  }

  /** A copy that goes its own way. */
  clone(): Player {
    const copies = new Map<DiskNode, DiskNode>();
    const copy = new Player(this.#ignored, this.disk.clone(copies));
    // A node that has no copy is reached by no name any more, not even after a power cut.
    for (const [change, { node, sequence }] of this.#underWay) copy.#underWay.set(change, { node: node === undefined ? node : (copies.get(node) ?? node), sequence });
    return copy;
  }

  play({ change, part }: Step): void {
    if (part === 'begin') {
      this.#underWay.set(change, { node: this.disk.find(change.path), sequence: this.disk.sequence });
      return;
    }
    if (change.settled === undefined) this.#carryOut(change);
    else if (change.settled === null) this.#underWay.delete(change);
    else this.#carryOut(change.settled, false, change);
  }

  /** The crash: each call under way was carried out, in part (a write), or not at all. A sync among them promises nothing. */
  interrupt(random: SeededRandom): void {
    for (const change of [...this.#underWay.keys()]) {
      if (change.kind === 'sync' || random.chance(0.4)) continue;
      if (change.kind !== 'write' || random.chance(0.5)) this.#carryOut(change, false);
      else this.#carryOut({ ...change, bytes: change.bytes.subarray(0, SECTOR_BYTES * random.below(Math.ceil(change.bytes.length / SECTOR_BYTES))) }, false, change);
    }
  }

  #carryOut(change: FileChange, isComplete = true, key = change): void {
    const underWay = this.#underWay.get(key);
    if (underWay === undefined) throw new Error(`${change.kind} of ${change.path} ends without a beginning`);
    this.#underWay.delete(key);
    const { node, sequence } = underWay;
    if (!isComplete && isInVain(change, node)) return;
    switch (change.kind) {
      case 'create':
        if (node === undefined) this.disk.createFile(change.path);
        break;
      case 'make-directory':
        this.disk.makeDirectory(change.path);
        break;
      case 'rename':
        this.disk.rename(change.path, change.target);
        break;
      case 'remove':
        this.disk.remove(change.path);
        break;
      case 'write':
        if (!(node instanceof FileNode)) throw new Error(`a write to ${change.path}, which the trace did not create`);
        this.disk.write(node, change.bytes, change.offsetBytes);
        if (change.synced && isComplete && this.#ignored !== 'files') syncOneWrite(node, change.path, this.disk.sequence);
        break;
      case 'sync':
        this.#sync(change.path, node, sequence);
        break;
    }
  }

  #sync(path: string, node: FileNode | DirectoryNode | undefined, sequence: number): void {
    if (node === undefined) throw new Error(`a sync of ${path}, which the trace did not create`);
    if (node instanceof FileNode) {
      if (this.#ignored !== 'files') node.makeDurable(sequence);
    } else if (this.#ignored !== 'directories') this.disk.makeNamesDurable(node, sequence);
  }
}

/** Whether a call that has no result must have failed, for what its path meant: the trace leaves out only those that are known to have. */
function isInVain({ kind }: FileChange, node: FileNode | DirectoryNode | undefined): boolean {
  if (kind === 'make-directory') return node !== undefined;
  return (kind === 'rename' || kind === 'remove') && node === undefined;
}

/** The end of an O_DSYNC write: it says nothing about older writes, so there may be none that the model would sync with it. */
function syncOneWrite(node: FileNode, path: string, sequence: number): void {
  if (node.unsyncedSequences.length !== 1) throw new Error(`${path} is written with and without O_DSYNC: the model does not know that`);
  node.makeDurable(sequence);
}

/** Writes a directory of a simulated disk to a real one, which must be there. */
export async function materialize(disk: SimDisk, path: string, target: string): Promise<void> {
  for (const [name, node] of disk.findDirectory(path).entries) {
    if (node.kind === 'file') await writeFile(join(target, name), contentOf(node));
    else {
      await mkdir(join(target, name));
      await materialize(disk, `${path}/${name}`, join(target, name));
    }
  }
}

/** In what a directory of the simulated disk and a real one differ: names of files, sorted. */
export async function differences(disk: SimDisk, path: string, actual: string): Promise<string[]> {
  const { entries } = disk.findDirectory(path);
  const found: string[] = [];
  const there = new Set<string>();
  for (const entry of await readdir(actual, { withFileTypes: true })) {
    if (isServersOwn(entry.name)) continue;
    there.add(entry.name);
    const node = entries.get(entry.name);
    const name = `${path}/${entry.name}`.replace('//', '/');
    if (node === undefined || (node.kind === 'directory') !== entry.isDirectory()) found.push(`${name} is not in the model`);
    else if (node.kind === 'directory') found.push(...(await differences(disk, name, join(actual, entry.name))));
    else if (!contentOf(node).equals(await readFile(join(actual, entry.name)))) found.push(`${name} differs from the model`);
  }
  for (const name of entries.keys()) if (!there.has(name)) found.push(`${path}/${name} is only in the model`);
  return found;
}

function contentOf(node: FileNode): Buffer {
  const bytes = Buffer.alloc(node.sizeBytes);
  node.read(bytes, 0);
  return bytes;
}
