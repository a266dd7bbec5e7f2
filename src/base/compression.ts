/** What a volume says of the compression of its chunks, and what becomes of new ones by that. */
import type { ChunkCompression } from './settings-types.ts';

/** `default`: as the settings of whoever has the volume open say. */
export const VOLUME_COMPRESSIONS = ['default', 'none', 'lz4'] as const;
export type VolumeCompression = (typeof VOLUME_COMPRESSIONS)[number];

export function isVolumeCompression(value: unknown): value is VolumeCompression {
  return VOLUME_COMPRESSIONS.some((compression) => compression === value);
}

/** What becomes of the new chunks of a volume where the settings say `setting`. */
export function chunkCompressionOf(own: VolumeCompression, setting: ChunkCompression): ChunkCompression {
  if (own === 'default') return setting;
  return own === 'lz4' ? 'lz4' : 'off';
}
