/** A machine in the worlds of volumes with a bucket. */
import type { Volume } from '../../src/volume/volume.ts';
import { SimDisk } from './disk.ts';
import { SimLocks } from './file-system.ts';
import type { SimProcess } from './process.ts';
import type { Change } from './remote-history.ts';

/** A machine of its own, with its disk, on which the volume is. */
export class Host {
  readonly name: string;
  readonly disk = new SimDisk();
  readonly locks = new SimLocks();
  /** Of the volume as it is here. */
  readonly history: Change[];
  /** All up to this many changes was answered. */
  answered: number;
  process: SimProcess | null = null;
  /** Something here is rotten that the bucket does not have. */
  isRotten = false;
  volume: Volume | null = null;

  constructor(name: string, history: readonly Change[]) {
    this.name = name;
    this.history = [...history];
    this.answered = history.length;
    this.disk.makeDirectory('/data');
    this.disk.makeNamesDurable(this.disk.findDirectory('/'), this.disk.sequence);
  }
}
