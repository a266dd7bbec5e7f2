/** What a figure was measured on; without it a benchmark result cannot be compared with another. */
import { readFile, statfs } from 'node:fs/promises';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { execute } from './fio.ts';

export interface Machine {
  readonly date: string;
  readonly processor: string;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly fileSystem: string;
  readonly versions: Readonly<Record<string, string>>;
}

export async function describeMachine(directory: string): Promise<Machine> {
  const versions: Record<string, string> = { node: process.version, uv: process.versions.uv };
  for (const [name, command, ...args] of [
    ['basalt', 'git', 'describe', '--always', '--dirty'],
    ['fio', 'fio', '--version'],
    ['nbdkit', 'nbdkit', '--version'],
    ['qemu-nbd', 'qemu-nbd', '--version'],
  ] as const) {
    versions[name] = await firstLine(command, args);
  }
  return {
    date: new Date().toISOString(),
    processor: cpus()[0]?.model ?? 'unknown',
    processors: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    fileSystem: await fileSystemOf(directory),
    versions,
  };
}

/** The tools are optional (`--peers none`): one that is missing is said to be, and does not end the run. */
async function firstLine(command: string, args: readonly string[]): Promise<string> {
  try {
    return (await execute(command, args)).split('\n')[0]?.trim() ?? '';
  } catch (error) {
    return `not available (${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)})`;
  }
}

/** Type of the file system that holds `directory`, from the longest mount point that is a prefix of it. */
async function fileSystemOf(directory: string): Promise<string> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  let best = { point: '', type: 'unknown' };
  for (const [, point = '', type = ''] of mounts) {
    const inside = directory === point || directory.startsWith(point === '/' ? '/' : `${point}/`);
    if (inside && point.length >= best.point.length) best = { point, type };
  }
  return best.type;
}

const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

/** Whether files in `directory` are kept in memory: a benchmark of syncing would be a lie there. */
export async function isMemoryBacked(directory: string): Promise<boolean> {
  const { type } = await statfs(directory);
  return type === TMPFS_MAGIC || type === RAMFS_MAGIC;
}
