/** The machine as `basalt doctor` sees it; tests have one of their own. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readdir, readFile, stat, statfs } from 'node:fs/promises';
import { release, totalmem } from 'node:os';
import { join } from 'node:path';
import { CHECKSUM_IMPLEMENTATIONS } from '../../base/checksum.ts';
import { systemCode } from '../../base/errors.ts';
import type { ServerSettings } from '../../base/settings-types.ts';
import { NodeFileSystem } from '../../env/node-files.ts';
import { mappingObstacle } from '../../env/node-mapping.ts';
import { TlsCredentials, validityProblem } from '../../server/tls-credentials.ts';
import { type DeviceFacts, readDeviceFacts } from '../device-facts.ts';

export interface FileFacts {
  readonly isDirectory: boolean;
  readonly mode: number;
  readonly ownerId: number;
}

export interface Space {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface Host {
  /** As in `process.version`, without the v. */
  readonly nodeVersion: string;
  readonly platform: string;
  readonly architecture: string;
  readonly kernel: string;
  readonly memoryBytes: number;
  /** Null where users have no numbers. */
  readonly userId: number | null;
  /** Optional packages that load. */
  readonly hasFastChecksum: boolean;
  /** Why koffi does not do what is wanted of it; null if it does. */
  koffiObstacle(): string | null;
  wallMs(): number;
  /** Null if it is not there, or not for us to read. */
  readText(path: string): Promise<string | null>;
  /** Names in a directory; none if it cannot be read. */
  list(path: string): Promise<readonly string[]>;
  look(path: string): Promise<FileFacts | null>;
  mayWrite(path: string): Promise<boolean>;
  space(path: string): Promise<Space>;
  facts(path: string): Promise<DeviceFacts | null>;
  /** What a program prints; null if there is no such program or it fails. */
  run(program: string, ...words: readonly string[]): Promise<string | null>;
  /** Makes a file, syncs it and its directory, and removes it: milliseconds. Rejects with what failed. */
  trySync(directory: string): Promise<number>;
  /** What is wrong with certificate and keys; null if nothing is. Rejects where they cannot be read. */
  tlsProblem(settings: ServerSettings): Promise<string | null>;
}

const RUN_TIMEOUT_MS = 5000;

/** What `promise` rejects with means `otherwise`, if it is one of the system's errors. */
async function unless<T, U>(promise: Promise<T>, otherwise: U): Promise<T | U> {
  try {
    return await promise;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return otherwise;
  }
}

async function lookAt(path: string): Promise<FileFacts> {
  const found = await stat(path);
  return { isDirectory: found.isDirectory(), mode: found.mode & 0o7777, ownerId: found.uid };
}

async function spaceOf(path: string): Promise<Space> {
  const { bavail, blocks, bsize } = await statfs(path);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

function run(program: string, ...words: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(program, [...words], { timeout: RUN_TIMEOUT_MS }, (error, out) => resolve(error === null ? out.trim() : null));
  });
}

async function trySync(directory: string): Promise<number> {
  const files = new NodeFileSystem();
  const path = join(directory, `.doctor-${process.pid}-${Date.now()}`);
  const startMs = performance.now();
  const file = await files.open(path, 'create');
  try {
    await file.write([Buffer.alloc(4096, 0xa5)], 0);
    await file.sync();
    await files.syncDirectory(directory);
    return performance.now() - startMs;
  } finally {
    await file.close();
    await files.remove(path);
  }
}

export function thisHost(): Host {
  return {
    nodeVersion: process.versions.node,
    platform: process.platform,
    architecture: process.arch,
    kernel: release(),
    memoryBytes: totalmem(),
    userId: process.getuid?.() ?? null,
    hasFastChecksum: CHECKSUM_IMPLEMENTATIONS.has('native'),
    koffiObstacle: mappingObstacle,
    wallMs: () => Date.now(),
    readText: (path) => unless(readFile(path, 'utf8'), null),
    list: (path) => unless(readdir(path), []),
    look: (path) => unless(lookAt(path), null),
    mayWrite: (path) => unless(access(path, constants.R_OK | constants.W_OK).then(() => true), false),
    space: spaceOf,
    facts: (path) => readDeviceFacts(path),
    run,
    trySync,
    async tlsProblem(settings) {
      const { current } = await TlsCredentials.load(settings);
      return validityProblem(current.certificate, Date.now());
    },
  };
}
