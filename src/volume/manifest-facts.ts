/** What people are told of a volume's manifest. */
import { hexOf } from '../format/bytes.ts';
import type { Manifest } from '../format/manifest.ts';
import type { VolumeInfo } from './volume-info.ts';

type ManifestFacts = Pick<VolumeInfo, 'name' | 'id' | 'sizeBytes' | 'blockSizeBytes' | 'durability' | 'epoch' | 'createdMs' | 'checkpointNumber' | 'checkpointChunk' | 'checkpointLsn' | 'logFileBytes' | 'logFileCount' | 'measuredLogWay'>;

export function manifestFacts(name: string, { volumeId, checkpoint, ...manifest }: Manifest): ManifestFacts {
  return {
    name,
    id: hexOf(volumeId),
    sizeBytes: manifest.sizeBytes,
    blockSizeBytes: manifest.blockSizeBytes,
    durability: manifest.durability,
    epoch: manifest.epoch,
    createdMs: manifest.createdMs,
    checkpointNumber: checkpoint.number,
    checkpointChunk: checkpoint.lastChunk,
    checkpointLsn: checkpoint.lastLsn,
    logFileBytes: manifest.logFileBytes,
    logFileCount: manifest.logFileCount,
    measuredLogWay: manifest.measuredLogWay,
  };
}
