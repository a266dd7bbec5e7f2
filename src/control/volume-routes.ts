/** The routes that make, rename, label and delete volumes. */
import { VOLUME_COMPRESSIONS, isVolumeCompression, type VolumeCompression } from '../base/compression.ts';
import { DURABILITY_MODES, isDurability, type Durability } from '../base/durability.ts';
import { VolumeError } from '../base/errors.ts';
import { changedLimits, LIMIT_NAMES, NO_LIMITS, type LimitChanges, type VolumeLimits } from '../base/volume-limits.ts';
import { LOG_IO_MODES } from '../base/settings-types.ts';
import { nearest } from '../config/nearest.ts';
import { parseSetting } from '../config/parse-setting.ts';
import type { FollowStatus, LogChoices, VolumeInfo } from '../volume/volume-info.ts';
import { bytesField, fieldsOf, flagField, textField } from './body-fields.ts';
import type { ControlledVolumes, ControlTargets } from './routes.ts';

const DEFAULT_BLOCK_BYTES = 4096;

/** A mode, and the consent that async needs. */
export function durabilityField(durability: unknown, hasConsent: boolean): Durability {
  if (!isDurability(durability)) {
    const hint = typeof durability === 'string' ? `; did you mean ${nearest(durability, DURABILITY_MODES)}?` : '';
    throw new VolumeError('invalid-argument', `"durability" must be one of ${DURABILITY_MODES.join(', ')}${hint}`);
  }
  if (durability === 'async' && !hasConsent) {
    throw new VolumeError('invalid-argument', 'mode async answers writes and flushes before they are on disk: a crash loses up to an interval of them; "acceptDataLoss": true says that this is wanted');
  }
  return durability;
}

/** What a volume says of compression. */
export function compressionField(compression: unknown): VolumeCompression {
  if (isVolumeCompression(compression)) return compression;
  const hint = typeof compression === 'string' ? `; did you mean ${nearest(compression, VOLUME_COMPRESSIONS)}?` : '';
  throw new VolumeError('invalid-argument', `"compression" must be one of ${VOLUME_COMPRESSIONS.join(', ')}${hint}`);
}

export async function createVolume(volumes: ControlledVolumes, body: unknown): Promise<VolumeInfo & { readonly live: null; readonly space: null }> {
  const fields = fieldsOf(body, ['name', 'sizeBytes', 'blockSizeBytes', 'durability', 'acceptDataLoss', 'compression', 'limits', 'log']);
  const name = textField(fields, 'name');
  const sizeBytes = bytesField(fields, 'sizeBytes');
  const blockSizeBytes = fields.blockSizeBytes === undefined ? DEFAULT_BLOCK_BYTES : bytesField(fields, 'blockSizeBytes');
  const durability = durabilityField(fields.durability ?? 'batched', flagField(fields, 'acceptDataLoss'));
  const compression = compressionField(fields.compression === undefined ? 'default' : fields.compression);
  const limits = fields.limits === undefined ? NO_LIMITS : changedLimits(NO_LIMITS, limitsField(fields.limits));
  return { ...(await volumes.create(name, { sizeBytes, blockSizeBytes, durability, compression, limits, log: fields.log === undefined ? {} : logField(fields.log) })), live: null, space: null };
}

/** Each number of the log, and the setting that says what it may be. */
const LOG_NUMBERS = { logFileBytes: 'engine.log_file_bytes', logFileCount: 'engine.log_file_count', eraseBlockBytes: 'engine.erase_block_bytes' } as const;

function logField(value: unknown): LogChoices {
  const fields = fieldsOf(value, [...Object.keys(LOG_NUMBERS), 'logIo'], '"log"');
  const number = (name: keyof typeof LOG_NUMBERS): number | undefined => {
    if (fields[name] === undefined) return undefined;
    if (typeof fields[name] !== 'number') throw new VolumeError('invalid-argument', `"log": "${name}" must be a number`);
    return Number(parseSetting({ source: `"log": "${name}"`, key: LOG_NUMBERS[name] }, fields[name]));
  };
  const [logFileBytes, logFileCount, eraseBlockBytes] = [number('logFileBytes'), number('logFileCount'), number('eraseBlockBytes')];
  const logIo = LOG_IO_MODES.find((mode) => mode === fields.logIo);
  if (fields.logIo !== undefined && logIo === undefined) throw new VolumeError('invalid-argument', `"log": "logIo" must be one of ${LOG_IO_MODES.join(', ')}`);
  return {
    ...(logFileBytes === undefined ? {} : { logFileBytes }),
    ...(logFileCount === undefined ? {} : { logFileCount }),
    ...(eraseBlockBytes === undefined ? {} : { eraseBlockBytes }),
    ...(logIo === undefined ? {} : { logIo }),
  };
}

/** Numbers; null takes one away, and what is not there stays. */
function limitsField(value: unknown): LimitChanges {
  const fields = fieldsOf(value, LIMIT_NAMES, '"limits"');
  const changes: Partial<Record<keyof VolumeLimits, number | null>> = {};
  for (const name of LIMIT_NAMES) {
    const limit = fields[name];
    if (limit === undefined) continue;
    if (typeof limit !== 'number' && limit !== null) throw new VolumeError('invalid-argument', `limit "${name}" must be a number, or null to take it away`);
    changes[name] = limit;
  }
  return changes;
}

export async function setLimits({ volumes, throttles }: ControlTargets, name: string, body: unknown): Promise<{ readonly name: string; readonly limits: VolumeLimits }> {
  const limits = await volumes.setLimits(name, limitsField(fieldsOf(body, ['limits']).limits));
  throttles.changed(name, limits);
  return { name, limits };
}

export async function removeVolume({ volumes, traffic, throttles }: ControlTargets, name: string): Promise<{ readonly deleted: string }> {
  await volumes.remove(name);
  traffic.forget(name);
  throttles.forget(name);
  return { deleted: name };
}

export async function renameVolume({ volumes, traffic, throttles }: ControlTargets, name: string, body: unknown): Promise<{ readonly name: string; readonly renamedFrom: string }> {
  const target = textField(fieldsOf(body, ['name']), 'name');
  await volumes.rename(name, target);
  traffic.forget(name);
  throttles.forget(name);
  return { name: target, renamedFrom: name };
}

export async function refreshVolume(volumes: ControlledVolumes, name: string, body: unknown): Promise<{ readonly name: string; readonly following: FollowStatus }> {
  fieldsOf(body, []);
  return { name, following: await volumes.refresh(name) };
}

/** What a smaller size would cut off is said in the error that refuses it. */
export async function resizeVolume(volumes: ControlledVolumes, name: string, body: unknown): Promise<{ readonly name: string; readonly sizeBytes: number }> {
  const fields = fieldsOf(body, ['sizeBytes', 'acceptDataLoss']);
  const sizeBytes = bytesField(fields, 'sizeBytes');
  await volumes.resize(name, sizeBytes, { mayShrink: flagField(fields, 'acceptDataLoss') });
  return { name, sizeBytes };
}

export async function setLabels(volumes: ControlledVolumes, name: string, body: unknown): Promise<{ readonly name: string; readonly labels: Readonly<Record<string, string>> }> {
  const { labels } = fieldsOf(body, ['labels']);
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) throw new VolumeError('invalid-argument', '"labels" must be an object of texts; null takes a label away');
  const changes = new Map<string, string | null>();
  for (const [key, value] of Object.entries<unknown>({ ...labels })) {
    if (typeof value !== 'string' && value !== null) throw new VolumeError('invalid-argument', `label ${JSON.stringify(key)} must be a text, or null to take it away`);
    changes.set(key, value);
  }
  return { name, labels: await volumes.setLabels(name, Object.fromEntries(changes)) };
}
