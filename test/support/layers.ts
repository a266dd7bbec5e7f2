/** DESIGN's table of layers as data, and the check of one source file against it. */
import { posix } from 'node:path';
import { lineAt, scanSource } from './source-scan.ts';

interface Layer {
  readonly level: number;
  /** Folders, or single files, that this folder may import besides itself and `base`. */
  readonly imports: readonly string[];
}

/** What of `volume` the layers above it see: types, and no engine behind them. */
const VOLUME_INTERFACE = ['volume/block-device.ts', 'volume/volume-info.ts'];
const ENVIRONMENT = 'env/env.ts';
const BELOW_VOLUME = ['format', ENVIRONMENT, 'store', 'index', 'wal', 'chunk'];

export const LAYERS: Readonly<Record<string, Layer>> = {
  base: { level: 0, imports: [] },
  env: { level: 1, imports: [] },
  protocol: { level: 1, imports: [] },
  format: { level: 1, imports: [] },
  store: { level: 2, imports: [ENVIRONMENT] },
  index: { level: 3, imports: ['format'] },
  wal: { level: 3, imports: [ENVIRONMENT, 'format'] },
  chunk: { level: 3, imports: [ENVIRONMENT, 'format', 'store'] },
  volume: { level: 4, imports: BELOW_VOLUME },
  session: { level: 5, imports: ['protocol', ...VOLUME_INTERFACE] },
  // The server hands the directory of volumes, its settings and a logger through to the sessions: interfaces only.
  server: { level: 6, imports: ['session', ENVIRONMENT, ...VOLUME_INTERFACE] },
  config: { level: 6, imports: [] },
  control: { level: 6, imports: ['config', ENVIRONMENT, ...VOLUME_INTERFACE] },
  // Devices of this machine: a client of any server, which knows nothing of ours.
  attach: { level: 6, imports: ['protocol', ENVIRONMENT] },
  cli: { level: 7, imports: ['attach', 'env', 'protocol', 'format', 'store', 'index', 'wal', 'chunk', 'volume', 'session', 'server', 'config', 'control'] },
  /** `src/index.ts`, the package's entry: the engine as a library, without the server. */
  entry: { level: 7, imports: ['env', 'format', 'store', 'index', 'wal', 'chunk', 'volume', 'config'] },
};

/** The one door of each outside package. */
const DOORS: Readonly<Record<string, RegExp>> = {
  yargs: /^cli\//,
  piscina: /^env\/node-[a-z-]+\.ts$/,
  'node-forge': /^cli\/make-pki\.ts$/,
  '@aws-sdk/client-s3': /^store\/s3-store\.ts$/,
  'smol-toml': /^config\/load-settings\.ts$/,
};

/** Modules of Node that compute and nothing else: they touch no file, socket, clock or chance. */
const PURE_MODULES = new Set(['node:buffer', 'node:path', 'node:zlib']);
const SERVER_MODULES = new Set(['node:net', 'node:tls', 'node:dgram', 'node:http', 'node:https', 'node:http2']);

/** Those that talk to the outside. */
const SOCKET_FOLDERS: ReadonlySet<string> = new Set(['server', 'control', 'attach']);

/** One file besides them: what an S3 store is asked for past the SDK, which has sockets of its own. The simulator has another store in its place, as for the SDK. */
const SOCKET_FILES: ReadonlySet<string> = new Set(['store/range-connection.ts']);
const STREAM_MODULES: ReadonlySet<string> = new Set(['node:net', 'node:tls']);

/** Files that load a package themselves, an optional one or only when it is needed: the one door of each. */
const NATIVE_DOORS = new Set(['base/checksum.ts', 'base/lz4.ts', 'env/node-koffi.ts']);

const SERVER_LEVEL = 6;
/** Names that only the real environment, worker entries and the layers from `server` upwards may use. */
const WORLD_GLOBALS =
  /(?<![.\w$#])(?:Date|setTimeout|setInterval|setImmediate|clearTimeout|clearInterval|clearImmediate|performance|process|console|crypto|fetch|Math\s*\.\s*random)(?![\w$])/g;

export interface Violation {
  /** Path below `src`. */
  readonly file: string;
  readonly line: number;
  readonly problem: string;
}

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : 'entry';
}

/** Whether a file is part of the real world: the Node environment, or the entry of a worker thread. */
function isWorldly(file: string): boolean {
  return /^env\/node-[a-z-]+\.ts$/.test(file) || file.endsWith('.worker.ts');
}

function checkInternal(file: string, target: string): string | null {
  const folder = folderOf(file);
  const targetFolder = folderOf(target);
  if (target === '../package.json' && LAYERS[folder]?.level === 7) return null; // the version
  if (target.startsWith('..')) return `imports ${target}, which lies outside src`;
  if (folder === targetFolder || targetFolder === 'base') return null;
  const allowed = LAYERS[folder]?.imports ?? [];
  if (allowed.includes(targetFolder) || allowed.includes(target)) return null;
  return `${folder} may not import ${target}`;
}

function checkOutside(file: string, specifier: string): string | null {
  if (specifier.startsWith('node:')) {
    const folder = folderOf(file);
    if (SOCKET_FILES.has(file) && STREAM_MODULES.has(specifier)) return null;
    if (SERVER_MODULES.has(specifier)) return SOCKET_FOLDERS.has(folder) ? null : `${specifier} belongs to server/`;
    const level = LAYERS[folder]?.level ?? 0;
    if (specifier === 'node:module') return NATIVE_DOORS.has(file) ? null : `${specifier} loads packages past their doors`;
    if (PURE_MODULES.has(specifier) || level >= SERVER_LEVEL || isWorldly(file)) return null;
    return `${specifier} below server/: take it from Env`;
  }
  const [first = '', second = ''] = specifier.split('/');
  const name = first.startsWith('@') ? `${first}/${second}` : first;
  const door = DOORS[name];
  if (door === undefined) return `package ${name} has no door`;
  return door.test(file) ? null : `package ${name} has its door at ${String(door)}`;
}

/** All that is wrong with the file `file` (a path below `src`) whose text is `source`. */
export function checkLayers(file: string, source: string): Violation[] {
  const layer = LAYERS[folderOf(file)];
  if (layer === undefined) return [{ file, line: 1, problem: `folder ${folderOf(file)} is not in the table of layers` }];
  const scanned = scanSource(source);
  const violations: Violation[] = [];
  for (const { specifier, line } of scanned.imports) {
    const problem = specifier.startsWith('.')
      ? checkInternal(file, posix.join(posix.dirname(file), specifier))
      : checkOutside(file, specifier);
    if (problem !== null) violations.push({ file, line, problem });
  }
  for (const line of scanned.computedImports) violations.push({ file, line, problem: 'a computed import cannot be checked' });
  if (layer.level < SERVER_LEVEL && !isWorldly(file)) {
    for (const match of scanned.code.matchAll(WORLD_GLOBALS)) {
      violations.push({ file, line: lineAt(source, match.index), problem: `${match[0]} below server/: take it from Env` });
    }
  }
  return violations;
}
