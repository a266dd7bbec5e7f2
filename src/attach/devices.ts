/** What the system says of its NBD devices: /sys, /proc. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { systemCode, VolumeError } from '../base/errors.ts';

const SECTOR_BYTES = 512;

export interface Device {
  readonly index: number;
  /** `/dev/nbd0` */
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Whether it has a server, or had one and is still held open. */
  readonly isAttached: boolean;
  /** The process that attached it, which may have ended. */
  readonly pid: number | null;
  /** The URI that it was attached with; null if another program did, or before Linux 5.14. */
  readonly backend: string | null;
}

/** `/dev/nbd3` or `nbd3` as 3; null for everything else. */
export function parseDeviceName(text: string): number | null {
  const match = /^(?:\/dev\/)?nbd(\d{1,6})$/.exec(text);
  return match === null ? null : Number(match[1]);
}

export const devicePath = (index: number): string => `/dev/nbd${index}`;

const ABSENT: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ESRCH', 'EACCES', 'EINVAL']);

/** What is missing, has ended meanwhile, or is not ours to see, is not there. */
async function orNull<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (ABSENT.has(systemCode(error))) return null;
    throw error;
  }
}

/** What is asked of them; tests have their own. */
export type DeviceLookup = Pick<Devices, 'isModuleLoaded' | 'list' | 'find' | 'usersOf'>;

/** Of the machine whose root directory is `root`. */
export class Devices {
  readonly #root: string;

  constructor(root = '') {
    this.#root = root;
  }

  async isModuleLoaded(): Promise<boolean> {
    return (await this.#list('/sys/block')).some((name) => parseDeviceName(name) !== null) || (await this.#list('/sys/module/nbd')).length > 0;
  }

  /** All there are, by number. */
  async list(): Promise<Device[]> {
    const indexes = (await this.#list('/sys/block')).map(parseDeviceName).filter((index) => index !== null);
    return Promise.all(indexes.toSorted((first, second) => first - second).map((index) => this.#describe(index)));
  }

  /** Rejects with `not-found`. */
  async find(index: number): Promise<Device> {
    if ((await this.#list(`/sys/block/nbd${index}`)).length === 0) throw new VolumeError('not-found', `there is no ${devicePath(index)}; basalt attached --all lists those that are there`, { context: { device: devicePath(index) } });
    return this.#describe(index);
  }

  async #describe(index: number): Promise<Device> {
    const folder = `/sys/block/nbd${index}`;
    const [size, readOnly, pid, backend] = await Promise.all(['size', 'ro', 'pid', 'backend'].map(async (name) => (await this.#read(`${folder}/${name}`))?.trim() ?? null));
    return {
      index,
      path: devicePath(index),
      sizeBytes: Number(size ?? 0) * SECTOR_BYTES,
      readOnly: readOnly === '1',
      isAttached: pid !== null,
      pid: pid === null ? null : Number(pid),
      backend: backend === '' ? null : backend,
    };
  }

  /** Who uses a device: mounts, swap, devices above it, processes that have it open. For people to read. */
  async usersOf(index: number): Promise<string[]> {
    const folder = `/sys/block/nbd${index}`;
    const parts = (await this.#list(folder)).filter((name) => name.startsWith(`nbd${index}p`));
    const numbers = await Promise.all([`${folder}/dev`, ...parts.map((part) => `${folder}/${part}/dev`)].map((path) => this.#read(path)));
    const paths = new Set([devicePath(index), ...parts.map((part) => `/dev/${part}`)]);
    const holders = await Promise.all([folder, ...parts.map((part) => `${folder}/${part}`)].map((path) => this.#list(`${path}/holders`)));
    const mounts = await this.#mounts(new Set(numbers.flatMap((number) => (number === null ? [] : [number.trim()]))), paths);
    return [...mounts, ...(await this.#swaps(paths)), ...holders.flat().map((name) => `held by /dev/${name}`), ...(await this.#openers(paths))];
  }

  /** In the mount namespace of this process, and of the first one: a service may have one of its own. */
  async #mounts(numbers: ReadonlySet<string>, paths: ReadonlySet<string>): Promise<string[]> {
    const texts = await Promise.all(['/proc/self/mountinfo', '/proc/1/mountinfo'].map((path) => this.#read(path)));
    const points = new Set<string>();
    for (const line of texts.flatMap((text) => text?.split('\n') ?? [])) {
      const fields = line.split(' ');
      const source = fields[fields.indexOf('-') + 2];
      // btrfs has device numbers of its own, and names the device as its source.
      if (fields.length > 6 && (numbers.has(fields[2]) || paths.has(source))) points.add(fields[4].replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCodePoint(Number.parseInt(octal, 8))));
    }
    return [...points].map((point) => `mounted on ${point}`);
  }

  async #swaps(paths: ReadonlySet<string>): Promise<string[]> {
    const lines = (await this.#read('/proc/swaps'))?.split('\n') ?? [];
    return lines.map((line) => line.split(/\s/)[0]).filter((path) => paths.has(path)).map((path) => `swap is on ${path}`);
  }

  async #openers(paths: ReadonlySet<string>): Promise<string[]> {
    const processes = (await this.#list('/proc')).filter((name) => /^\d+$/.test(name));
    const found = await Promise.all(processes.map(async (pid) => {
      for (const descriptor of await this.#list(`/proc/${pid}/fd`)) {
        const target = await orNull(readlink(`${this.#root}/proc/${pid}/fd/${descriptor}`));
        if (target !== null && paths.has(target)) return `open in process ${pid} (${((await this.#read(`/proc/${pid}/comm`)) ?? '?').trim()})`;
      }
      return null;
    }));
    return found.filter((text) => text !== null);
  }

  async #list(path: string): Promise<string[]> {
    return (await orNull(readdir(`${this.#root}${path}`))) ?? [];
  }

  #read(path: string): Promise<string | null> {
    return orNull(readFile(`${this.#root}${path}`, 'utf8'));
  }
}
