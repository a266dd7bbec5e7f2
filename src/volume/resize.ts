/**
 * Another size for an open volume. One manifest is the moment at which it has it; a crash leaves the one before or the one after.
 *
 * Nothing of recovery knows of sizes but that no block is stored behind the largest one there ever was (`spanBytes`). A smaller size hides what is behind
 * it at once, and gives its space back as a trim does, in the background. A larger one uncovers only what was trimmed, and durably so, before: what a
 * smaller size had hidden never comes back, wherever a crash came between.
 */
import type { ExtentList } from '../base/extent-list.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { formatSize } from '../base/units.ts';
import type { Manifest } from '../format/manifest.ts';
import { type Turn, inTurn, replaceManifest } from './change-durability.ts';
import { checkSize } from './create-volume.ts';

export interface ResizeChange extends Turn {
  readonly sizeBytes: number;
  /** Makes a range zero, also behind the end; on return that is durable, whatever the volume's mode. */
  readonly trimDurably: (offsetBytes: number, lengthBytes: number) => Promise<void>;
  /** Of a volume with a bucket: makes chunks of all that was accepted, and a checkpoint with another size. */
  readonly makeChunks: () => Promise<void>;
  readonly checkpoint: (sizes: Pick<Manifest, 'sizeBytes' | 'spanBytes'>) => Promise<void>;
  /** The same without waiting for the disk. */
  readonly trim: (offsetBytes: number, lengthBytes: number) => Promise<void>;
}

/**
 * On return the volume has the size, durably. One at a time: what another uncovers meanwhile, and clients write there, would be trimmed, or come back after a crash. Errors: `invalid-argument`; `unavailable` (its bucket does not know of the last size yet); what `check` throws; `no-space`: nothing was changed,
 * unless the message says so; `io-error`, `failed`: the volume takes no more writes.
 */
export async function resizeVolume(change: ResizeChange): Promise<void> {
  const { core, sizeBytes, check } = change;
  check();
  checkSize(sizeBytes, core.blockSizeBytes);
  if (core.shipper?.isResizing === true) throw new VolumeError('unavailable', `the bucket of volume ${core.name} does not know yet which size it was given last; basalt drain ${core.name} waits for that, then resize it again`);
  const before = core.manifest;
  // Part of it may have been hidden by a smaller size, and not be trimmed yet.
  const hiddenBytes = Math.min(sizeBytes, before.spanBytes) - before.sizeBytes;
  if (hiddenBytes > 0) await change.trimDurably(before.sizeBytes, hiddenBytes);
  // What was answered before goes to the bucket before the size does: a file system that was made smaller first, say, and what was trimmed here.
  if (core.shipper !== null) await change.makeChunks();
  await inTurn(change, async () => {
    const { manifest } = core;
    const spanBytes = Math.max(manifest.spanBytes, sizeBytes);
    const isOther = manifest.sizeBytes !== sizeBytes || manifest.spanBytes !== spanBytes;
    // In the bucket a size comes with a checkpoint: with all before it, and nothing behind it.
    if (isOther && core.shipper !== null) await change.checkpoint({ sizeBytes, spanBytes });
    else if (isOther) await replaceManifest(core, { ...manifest, sizeBytes, spanBytes });
    core.reader.volumeBlocks = core.volumeBlocks;
  });
  core.env.logger.log('info', 'resized', { volume: core.name, fromBytes: before.sizeBytes, sizeBytes });
  const behindBytes = core.manifest.spanBytes - sizeBytes;
  if (behindBytes > 0) await giveBack(change, behindBytes);
}

async function giveBack({ core, sizeBytes, trim }: ResizeChange, lengthBytes: number): Promise<void> {
  try {
    await trim(sizeBytes, lengthBytes);
  } catch (cause) {
    const error = toVolumeError(cause, `trimming the end of volume ${core.name}`);
    throw new VolumeError(error.code, `volume ${core.name} has ${formatSize(sizeBytes)} from now on, but the space behind that is not given back yet; resizing it to the same size again does it: ${error.message}`, { cause });
  }
}

/** Data that stands in a range of a volume. */
export interface StoredRange {
  /** Bytes of blocks that hold data, and from where to where these stand; an empty range begins and ends at 0. */
  readonly bytes: number;
  readonly firstByte: number;
  readonly endByte: number;
}

/** What a part of a volume holds. `next` tells the extents from a byte on, at least one of them. */
export async function storedIn(startBytes: number, endBytes: number, next: (offsetBytes: number, lengthBytes: number) => Promise<ExtentList>): Promise<StoredRange> {
  const stored = { bytes: 0, firstByte: 0, endByte: 0 };
  for (let at = startBytes; at < endBytes; ) {
    const extents = await next(at, endBytes - at);
    for (let index = 0; index < extents.count; index += 1) {
      const lengthBytes = extents.lengthAt(index);
      if (!extents.isZeroAt(index)) {
        if (stored.bytes === 0) stored.firstByte = at;
        stored.bytes += lengthBytes;
        stored.endByte = at + lengthBytes;
      }
      at += lengthBytes;
    }
  }
  return stored;
}

/** What is asked before a volume is made smaller. */
interface Shrinkable {
  readonly name: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  storedBehind(offsetBytes: number): Promise<StoredRange>;
}

/** Throws `invalid-argument`, which says what would be lost, if a size is smaller than that of the volume; `users` use it. Also if no volume can have that size. */
export async function refuseLoss(volume: Shrinkable, sizeBytes: number, users: number): Promise<void> {
  checkSize(sizeBytes, volume.blockSizeBytes);
  if (sizeBytes >= volume.sizeBytes) return;
  const { bytes, firstByte, endByte } = await volume.storedBehind(sizeBytes);
  const what = bytes === 0 ? 'no data: nothing is stored there' : `${formatSize(bytes)} of data between bytes ${firstByte} and ${endByte}, for good`;
  const who = users === 0 ? '' : `; ${users} ${users === 1 ? 'client uses' : 'clients use'} it now`;
  throw new VolumeError('invalid-argument', `making volume ${volume.name} smaller, from ${formatSize(volume.sizeBytes)} to ${formatSize(sizeBytes)}, cuts off ${what}${who}`, {
    context: { needsConsent: true, volume: volume.name, lostBytes: bytes, firstByte, endByte, users },
  });
}
