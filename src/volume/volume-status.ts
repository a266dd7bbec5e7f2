/** Parts of what an open volume says of itself. */
import type { LogWriter } from '../wal/log-writer.ts';
import type { VolumeCore } from './volume-core.ts';
import type { ShippingStatus, VolumeStats, VolumeStatus } from './volume-info.ts';

/** Bytes that the device was given for those that clients wrote, since the volume was opened. */
export function wearOf({ logBytes, chunkBytes, checkpointBytes, writtenBytes }: VolumeStats): VolumeStatus['wear'] {
  const deviceBytes = logBytes + chunkBytes + checkpointBytes;
  return { deviceBytes, userBytes: writtenBytes, factor: writtenBytes === 0 ? null : deviceBytes / writtenBytes };
}

/** Null: the volume has no bucket. */
export function shippingOf(core: VolumeCore, log: LogWriter): ShippingStatus | null {
  const { shipper, pressure, storeStall } = core;
  if (shipper === null) return null;
  const stall = storeStall ?? log.trouble;
  const isPaused = stall !== null && core.waitsForBucket(stall);
  return { ...shipper.status(), prefetch: core.prefetch?.status() ?? null, writers: isPaused ? 'paused' : (pressure?.state ?? 'free') };
}
