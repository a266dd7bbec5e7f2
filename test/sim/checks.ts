/** What is looked at as a whole: every block of a volume, every file of its directory. */
import type { Arena } from '../../src/base/arena.ts';
import { VolumeError } from '../../src/base/errors.ts';
import type { DirectoryNode, SimDisk } from './disk.ts';
import type { SimVolume } from './engine.ts';
import type { VolumeState } from './life.ts';
import { SimulationFailure } from './model.ts';
import type { SeededRandom } from './random.ts';

/** Bytes of one read when the whole volume is checked. */
const CHECK_BYTES = 128 * 1024;
/** Reads of parts where nobody ever wrote. */
const EMPTY_CHECKS = 32;

/** Reads the whole volume, but for most of what nobody ever wrote to, and compares it with the model's state after `lsn`. */
export async function checkAll(state: VolumeState, volume: SimVolume, random: SeededRandom, lsn: number, when: string): Promise<void> {
  const { model } = state;
  const stepBlocks = Math.max(1, CHECK_BYTES / model.blockSizeBytes);
  const stepCount = Math.ceil(model.blockCount / stepBlocks);
  const steps = new Set<number>();
  for (const block of model.touchedBlocks()) steps.add(Math.floor(block / stepBlocks));
  for (let i = 0; i < Math.min(EMPTY_CHECKS, stepCount); i += 1) steps.add(stepCount <= EMPTY_CHECKS ? i : random.below(stepCount));
  for (const step of [...steps].toSorted((left, right) => left - right)) {
    const first = step * stepBlocks;
    const found = new Uint8Array((Math.min(model.blockCount, first + stepBlocks) - first) * model.blockSizeBytes).fill(0xa5);
    await volume.read(first * model.blockSizeBytes, found);
    model.checkState(found, first * model.blockSizeBytes, lsn, when);
  }
}

/** Whether calls that fail may have caused it. */
export function isExcused(error: unknown): boolean {
  return error instanceof VolumeError && ['io-error', 'no-space', 'failed'].includes(error.code);
}

export function checkMemory(arena: Arena): void {
  const { dirtySlabs, cleanSlabs, pinnedSlabs } = arena.stats();
  if (dirtySlabs + cleanSlabs + pinnedSlabs > 0) throw new SimulationFailure(`closed volumes still hold ${dirtySlabs} dirty, ${cleanSlabs} clean and ${pinnedSlabs} pinned slabs`);
}

/** After a proper end a volume's directory holds what the volume needs, and nothing else. */
export function checkFiles(disk: SimDisk, directory: string, settings: { readonly logFileBytes: number; readonly logFileCount: number }): void {
  const unexpected: string[] = [];
  let logFiles = 0;
  const walk = (node: DirectoryNode, path: string): void => {
    for (const [name, entry] of node.entries) {
      const full = path === '' ? name : `${path}/${name}`;
      if (entry.kind === 'directory') {
        walk(entry, full);
        continue;
      }
      if (!EXPECTED.test(full)) unexpected.push(full);
      if (full === RESERVE && entry.sizeBytes !== RESERVE_BYTES) throw new SimulationFailure(`the reserve has ${entry.sizeBytes} bytes, not ${RESERVE_BYTES}`);
      if (full === MARK && entry.sizeBytes > MARK_BYTES) throw new SimulationFailure(`the mark has ${entry.sizeBytes} bytes, more than ${MARK_BYTES}`);
      if (!full.startsWith('log/') || full === MARK) continue;
      logFiles += 1;
      if (entry.sizeBytes > settings.logFileBytes) throw new SimulationFailure(`${full} has ${entry.sizeBytes} bytes, more than the ${settings.logFileBytes} of the settings`);
    }
  };
  walk(disk.findDirectory(directory), '');
  if (unexpected.length > 0) throw new SimulationFailure(`a closed volume left files that nobody needs: ${unexpected.join(', ')}`);
  if (logFiles !== settings.logFileCount) throw new SimulationFailure(`there are ${logFiles} log files, not the ${settings.logFileCount} of the settings`);
}

/** Space that gives way to a manifest when the disk is full. */
const RESERVE = '.reserve';
const RESERVE_BYTES = 64 * 1024;
/** Says what had been synced; shorter where a power cut tore it. */
const MARK = 'log/synced';
const MARK_BYTES = 64;
const EXPECTED = /^(?:lock|manifest|manifest-copy|\.reserve|log\/\d\d\.log|log\/synced|chunks\/[^./]+|checkpoints\/[^./]+)$/;
