/** What a directory of volumes says of one without opening it. */
import { chunkCompressionOf } from '../base/compression.ts';
import { VolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Env } from '../env/env.ts';
import type { DeviceSummary } from './block-device.ts';
import { knownManifest } from './following.ts';
import { wantedLogWay } from './log-way.ts';
import { manifestFacts } from './manifest-facts.ts';
import type { ListedVolume, VolumeInfo } from './volume-info.ts';

/** All of a `VolumeInfo` that the volume's files say. Errors: as `readManifest`. */
export async function describeFiles({ files }: Pick<Env, 'files'>, directory: string, name: string, settings: EngineSettings): Promise<Omit<VolumeInfo, 'labels' | 'limits' | 'open' | 'damage' | 'damageLookedFor'>> {
  const { manifest, follows } = await knownManifest(files, directory);
  return {
    ...manifestFacts(name, manifest),
    logWay: wantedLogWay(settings.logIo, manifest.measuredLogWay, manifest.durability),
    logCompress: settings.logCompress,
    compression: manifest.compression,
    chunkCompress: chunkCompressionOf(manifest.compression, settings.chunkCompress),
    storedBytes: await files.usedBytes(directory),
    follows,
  };
}

/** One line for each volume, for clients; what cannot be read is logged, and left out. */
export async function summarizeAll({ files, logger }: Pick<Env, 'files' | 'logger'>, parent: string, names: readonly string[]): Promise<DeviceSummary[]> {
  const summaries: DeviceSummary[] = [];
  for (const name of names) {
    try {
      const { manifest, follows } = await knownManifest(files, `${parent}/${name}`);
      summaries.push({ name, sizeBytes: manifest.sizeBytes, description: follows === null ? `basalt volume, ${manifest.durability}` : 'basalt volume of another host, read-only' });
    } catch (error) {
      logger.log('warn', 'volume-unreadable', { volume: name, error });
    }
  }
  return summaries;
}

/** One that is damaged keeps nobody from seeing the others. */
export async function listInfos(names: readonly string[], describe: (name: string) => Promise<VolumeInfo>): Promise<ListedVolume[]> {
  const infos: ListedVolume[] = [];
  for (const name of names) {
    try {
      infos.push(await describe(name));
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      infos.push({ name, damage: error.message });
    }
  }
  return infos;
}
