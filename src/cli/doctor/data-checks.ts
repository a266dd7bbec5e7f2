/** The folder of the volumes, the disk below it, and the settings. */
import { dirname, join, resolve } from 'node:path';
import { VolumeError } from '../../base/errors.ts';
import { formatSize, GIB, MIB } from '../../base/units.ts';
import type { LoadedSettings } from '../../config/load-settings.ts';
import { FAR_FILE_SYSTEMS, MEMORY_FILE_SYSTEMS } from '../device-facts.ts';
import { shellWord } from '../verbs/create.ts';
import { failure, type Finding, ok, warning } from './findings.ts';
import type { Host } from './host.ts';

/** Below this there is no room for a checkpoint. */
const FREE_BYTES_MIN = 16 * MIB;
const FREE_BYTES_GOOD = GIB;
/** For others to write: they could put anything in the place of a volume. */
const WRITABLE_BY_OTHERS = 0o022;
const SLOW_SYNC_MS = 500;

const chown = (path: string): string => `sudo chown -R "$(id -u):$(id -g)" ${shellWord(path)}`;

export async function checkData(host: Host, directory: string): Promise<Finding[]> {
  const path = resolve(directory);
  const found = await host.look(path);
  if (found === null) return [await checkMissing(host, path)];
  if (!found.isDirectory) return [failure('data folder', `${path} is no directory`, 'name another one with --data')];
  if (!(await host.mayWrite(path))) return [failure('data folder', `${path} is not for this user to write: it belongs to user ${found.ownerId}, with mode ${found.mode.toString(8)}`, chown(path))];
  const folder =
    (found.mode & WRITABLE_BY_OTHERS) === 0
      ? ok('data folder', `${path}, mode ${found.mode.toString(8)}`)
      : warning('data folder', `others may write in ${path} (mode ${found.mode.toString(8)}): they can remove volumes, and put others in their place`, `chmod go-w ${shellWord(path)}`);
  return [folder, ...(await checkOwners(host, path)), await checkDisk(host, path), await checkSpace(host, path), await checkSync(host, path)];
}

async function checkMissing(host: Host, path: string): Promise<Finding> {
  const parent = dirname(path);
  if (await host.mayWrite(parent)) return warning('data folder', `${path} is not there yet: basalt create makes it, with the first volume`, `basalt create NAME SIZE --data ${shellWord(path)}`);
  return failure('data folder', `${path} is not there, and ${parent} is not for this user to write in, or is not there either`, `sudo install -d -m 700 -o "$(id -u)" -g "$(id -g)" ${shellWord(path)}`);
}

/** Volumes that somebody else made, root for example, cannot be opened. */
async function checkOwners(host: Host, path: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const name of await host.list(path)) {
    const manifest = join(path, name, 'manifest');
    const found = await host.look(manifest);
    if (found === null || (await host.mayWrite(manifest))) continue;
    findings.push(failure('volume files', `volume ${name} is not for this user to write: ${manifest} belongs to user ${found.ownerId}`, chown(join(path, name))));
  }
  return findings;
}

async function checkDisk(host: Host, path: string): Promise<Finding> {
  const facts = await host.facts(path);
  if (facts === null) return ok('file system', 'what it is is not known here');
  const { fileSystem, mountPoint, disk, isReadOnly, isCard } = facts;
  const said = `${fileSystem} at ${mountPoint}${disk === null ? '' : `, on ${disk}`}`;
  if (isReadOnly) return failure('file system', `${said}, is mounted read-only: a failing disk becomes that (dmesg says so)`, `sudo mount -o remount,rw ${shellWord(mountPoint)}, when the disk is sound`);
  if (MEMORY_FILE_SYSTEMS.has(fileSystem)) return warning('file system', `${said}, is memory: volumes are gone with the next restart of the machine`, 'name a directory on a disk with --data');
  if (FAR_FILE_SYSTEMS.has(fileSystem)) return warning('file system', `${said}, is not on this machine: locks and syncs are as good as the other side's`, 'name a directory on a disk of this machine with --data');
  return ok('file system', isCard ? `${said}, a card: basalt settings --profile jetson-sd is for it` : said);
}

async function checkSpace(host: Host, path: string): Promise<Finding> {
  const { freeBytes, totalBytes } = await host.space(path);
  const said = `${formatSize(freeBytes)} of ${formatSize(totalBytes)} are free`;
  const mend = 'free some, or name a directory on a larger disk with --data';
  if (freeBytes < FREE_BYTES_MIN) return failure('disk space', `${said}: volumes are opened for reading only, and writes are answered with "no space"`, mend);
  if (freeBytes < FREE_BYTES_GOOD) return warning('disk space', said, mend);
  return ok('disk space', said);
}

async function checkSync(host: Host, path: string): Promise<Finding> {
  let ms: number;
  try {
    ms = await host.trySync(path);
  } catch (error) {
    return failure('disk sync', `a file of 4 KiB could not be written and synced in ${path}: ${error instanceof Error ? error.message : String(error)}`, 'look for the disk in dmesg; cable, card, file system');
  }
  const said = `a new file was on the disk after ${ms.toFixed(1)} ms`;
  return ms > SLOW_SYNC_MS ? warning('disk sync', `${said}: that is slow, or the disk is in use`, `basalt tune ${shellWord(path)} measures it`) : ok('disk sync', said);
}

/** `load` reads the settings of all sources. Returns them, too, or null where they are refused. */
export async function checkSettings(host: Host, load: () => Promise<LoadedSettings>): Promise<{ readonly findings: Finding[]; readonly loaded: LoadedSettings | null }> {
  let loaded: LoadedSettings;
  try {
    loaded = await load();
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
    return { findings: [failure('settings', error.message, 'basalt settings lists every setting with its range')], loaded: null };
  }
  const count = loaded.origins.size;
  const findings = [ok('settings', count === 0 ? 'all are defaults' : `${count} are not defaults, and they fit together`)];
  const { server } = loaded.settings;
  if (server.tls !== 'off') findings.push(await checkTls(host, server));
  return { findings, loaded };
}

async function checkTls(host: Host, server: LoadedSettings['settings']['server']): Promise<Finding> {
  try {
    const problem = await host.tlsProblem(server);
    return problem === null ? ok('certificates', 'certificate and keys can be read, and are valid now') : warning('certificates', `server-cert.pem ${problem}`, 'ask for a new one; basalt pki makes one for a first try');
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
    return failure('certificates', error.message, `basalt pki ${shellWord(server.tlsCertificates === '' ? 'pki' : server.tlsCertificates)} makes some for a first try`);
  }
}
