/**
 * Every setting of basalt: type, unit, range, default, description. Nothing else in the code has a default of its
 * own; the documented `config/default.toml`, the flags, the environment variables and the help are made from this table.
 */
import { assert } from '../base/assert.ts';
import { CHUNK_COMPRESSIONS, type EngineSettings, FLUSH_TARGETS, LOG_COMPRESSIONS, LOG_IO_MODES, type ExportTable, type RemoteSettings, type RetrySettings, type ServerSettings, type Settings, TLS_MODES } from '../base/settings-types.ts';
import { GIB, KIB, MIB, TIB } from '../base/units.ts';

/** Settings of the program around the engine and the server. */
export interface ProcessSettings {
  /** Threads that build chunks. */
  readonly workerThreads: number;
  /** How long a stopping server waits for requests in flight before it closes their connections. */
  readonly stopGraceMs: number;
  /** What may be written to the disk in its life; 0: not known. For people only: nothing is decided by it. */
  readonly diskEnduranceBytes: number;
}

/** Of volumes that have a bucket: what the engine takes, and how the store is spoken to. */
export interface RemoteProgramSettings extends RemoteSettings, RetrySettings {
  readonly connectTimeoutMs: number;
  readonly socketsMax: number;
}

/** The control API: its limits, and where it listens beside its socket. */
export interface ControlSettings {
  /** `HOST:PORT`; empty: on the socket alone. */
  readonly listen: string;
  /** File of the token that who comes over TCP must show. */
  readonly tokenFile: string;
  readonly maxConnections: number;
  readonly maxBodyBytes: number;
  /** A request must arrive within this time; an idle connection is closed after it. */
  readonly timeoutMs: number;
}

/** All settings of the program: what the engine and the server are given, and its own. */
export interface ProgramSettings extends Settings {
  readonly remote: RemoteProgramSettings;
  readonly control: ControlSettings;
  readonly process: ProcessSettings;
  /** From `[exports.NAME]` of the file: `exports.ts` reads them. */
  readonly exports: ExportTable;
}

/** A number within a range. `size`: bytes. `milliseconds`, `amount`: may have a fraction. `count`: whole. */
export interface NumberSetting {
  readonly type: 'size' | 'count' | 'milliseconds' | 'amount';
  readonly default: number;
  readonly min: number;
  readonly max: number;
  /** The value must be a multiple of this. */
  readonly step: number;
  readonly description: string;
}

export interface TextSetting {
  readonly type: 'text';
  readonly default: string;
  readonly maxBytes: number;
  /** What it must look like, and how that is said. */
  readonly form?: { readonly pattern: string; readonly says: string };
  readonly description: string;
}

/** True or false. */
export interface FlagSetting {
  readonly type: 'flag';
  readonly default: boolean;
  readonly description: string;
}

/** One of a few words. */
export interface ChoiceSetting<T extends string = string> {
  readonly type: 'choice';
  readonly default: T;
  readonly values: readonly T[];
  readonly description: string;
}

export type Setting = NumberSetting | TextSetting | ChoiceSetting | FlagSetting;
export type SettingValue = number | string | boolean;

/** One row for each property of `T`: the compiler refuses a table that lacks one. */
type Table<T> = { readonly [K in keyof T]: T[K] extends number ? NumberSetting : T[K] extends boolean ? FlagSetting : T[K] extends string ? (string extends T[K] ? TextSetting : ChoiceSetting<T[K]>) : never };

type Numbers = readonly [defaultValue: number, min: number, max: number];

function size([defaultValue, min, max]: Numbers, description: string, step = 1): NumberSetting {
  return { type: 'size', default: defaultValue, min, max, step, description };
}

function count([defaultValue, min, max]: Numbers, description: string): NumberSetting {
  return { type: 'count', default: defaultValue, min, max, step: 1, description };
}

function amount([defaultValue, min, max]: Numbers, description: string): NumberSetting {
  return { type: 'amount', default: defaultValue, min, max, step: 0, description };
}

function milliseconds([defaultValue, min, max]: Numbers, description: string): NumberSetting {
  return { type: 'milliseconds', default: defaultValue, min, max, step: 0, description };
}

const SECOND = 1000;
const HOUR = 3600 * SECOND;
/** The unit of the arena; a limit that holds whole slabs is a multiple of it. */
const SLAB = 4 * MIB;

const ENGINE: Table<EngineSettings> = {
  arenaBytes: size([192 * MIB, 32 * MIB, TIB], 'Memory for block data in all volumes together: unwritten and cached.', SLAB),
  dirtyBytes: size([160 * MIB, 16 * MIB, TIB], 'Of the arena, how much may wait to be written into chunks before writers wait.', SLAB),
  indexBytes: size([64 * MIB, MIB, TIB], 'Block-map pages of one volume kept in memory.'),
  chunkTableBytes: size([16 * MIB, MIB, 64 * GIB], 'Block tables of chunks kept in memory, one volume.'),
  frameCacheBytes: size([MIB, 0, GIB], 'Unpacked frames of compressed chunks kept for small reads in sequence, one volume, and as much at most in buffers to read into; 0 keeps none.'),
  openChunkFiles: count([256, 8, 65_536], 'Chunk files kept open, one volume.'),
  logFileBytes: size([64 * MIB, MIB, 4 * GIB], 'Size of one log file; a new volume gets smaller ones if it is small.', 64 * KIB),
  eraseBlockBytes: size([4 * MIB, 0, GIB], 'Erase block of the flash: log files of a new volume are rounded up to whole ones; a power of two, 0: not rounded. See /sys/block/mmcblk0/device/preferred_erase_size.'),
  logFileCount: count([8, 3, 64], 'Log files in the ring of a new volume.'),
  logCompress: { type: 'choice', default: 'auto', values: LOG_COMPRESSIONS, description: 'Compress the log, where that saves a tenth or more: auto does while its syncs are slow, as on a card. Not read by versions before this setting.' },
  chunkCompress: { type: 'choice', default: 'off', values: CHUNK_COMPRESSIONS, description: 'Compress the blocks of chunks, where that saves a tenth or more: for a slow or small disk. A volume may say otherwise (basalt compression). What was written before stays as it is. Not read by versions before this setting.' },
  logIo: { type: 'choice', default: 'auto', values: LOG_IO_MODES, description: 'How the log is written: buffered, writes and syncs; direct, in mode strict one write past the page cache (O_DIRECT); mmap, small writes through a mapping; auto, buffered or direct, as measured when the volume was made.' },
  logInlineBytes: size([192 * KIB, 0, 64 * MIB], 'Largest log write done on the main thread; a larger one goes to the thread pool.'),
  logInlineLatencyMs: milliseconds([2, 0, 1000], 'A log write on the main thread slower than this sends the next ones to the thread pool for a while.'),
  logInlineSyncLatencyMs: milliseconds([0.5, 0, 1000], 'Log syncs as fast as this are done on the main thread; 0: never.'),
  batchBlocks: count([131_072, 1, 16_777_216], 'Mode batched: sync the log when this many blocks are unsynced...'),
  batchMs: milliseconds([1000, 1, HOUR], '...or when the oldest unsynced write is this old.'),
  asyncIntervalMs: milliseconds([SECOND, 1, HOUR], 'Mode async: how often the log is written and synced.'),
  flushBytes: size([96 * MIB, SLAB, TIB], 'Data beyond this is made into chunks at once.'),
  flushIntervalMs: milliseconds([5 * SECOND, 10, 24 * HOUR], 'Data older than this is made into a chunk, however little it is.'),
  chunkConcurrency: count([4, 1, 64], 'Chunks built and written at the same time, one volume.'),
  spareBytes: size([256 * MIB, 0, TIB], 'Files of removed chunks kept to be written again, one volume: that is faster than making new ones.'),
  checkpointChunks: count([64, 1, 65_536], 'A checkpoint is written after this many chunks...'),
  checkpointIntervalMs: milliseconds([60 * SECOND, 100, 24 * HOUR], '...or this long after the first change since the last one.'),
  compactLivePercent: count([50, 0, 90], 'Chunks of which less than this percentage is live data are rewritten; 0: none for this reason.'),
  compactSpacePercent: count([130, 110, 1_000_000], 'Chunks are rewritten until all of them take no more than this percentage of the live data.'),
  compactBytesPerSecond: size([32 * MIB, 64 * KIB, TIB], 'Rewriting chunks writes this much a second; beyond compact_space_percent also twice what clients write.'),
  compactPauseMs: milliseconds([SECOND, 1, HOUR], 'Pause between a change and the search for chunks to rewrite.'),
  scrubBytesPerSecond: size([32 * MIB, 64 * KIB, TIB], 'Scrubbing reads this much a second; a quarter of it while clients read or write.'),
  retryMs: milliseconds([500, 1, HOUR], 'Pause before a failed write to the store or the log is tried again.'),
  idleCloseMs: milliseconds([10 * SECOND, 0, HOUR], 'A volume that no client uses is closed after this time.'),
};

const REMOTE: Table<RemoteProgramSettings> = {
  cacheBytes: size([10 * GIB, 0, 1024 * TIB], 'Chunks of one volume kept here that are in its bucket as well; what is not in the bucket always stays.'),
  cacheTtlMs: milliseconds([0, 0, 365 * 24 * HOUR], 'Chunks kept here that are in the bucket as well, and that nobody read for so long, go from this disk; 0: for want of room alone. What is not in the bucket always stays.'),
  fetchBytes: size([64 * KIB, 4 * KIB, 4 * MIB], 'Unit in which chunks that are only in the bucket are fetched.', 4 * KIB),
  readAheadBytes: size([64 * MIB, 0, GIB], 'Memory for what is fetched ahead of the bucket while reads are sequential, one volume; from about 5M on whole chunks, several at a time; 0: nothing is.'),
  shipMemoryBytes: size([96 * MIB, 0, GIB], 'Memory for copies of new chunks, one volume: they are shipped from there, others are read from the disk once more.'),
  shipConcurrency: count([4, 1, 64], 'Objects on their way to the bucket at a time, one volume.'),
  leaseMs: milliseconds([60 * SECOND, SECOND, 24 * HOUR], 'Nobody takes a volume over without --force until its server gave no sign of life in the bucket for so long.'),
  retryMs: milliseconds([5 * SECOND, 10, HOUR], 'Pause before what could not be shipped is tried again.'),
  flushTarget: { type: 'choice', default: 'local', values: FLUSH_TARGETS, description: 'What FLUSH and FUA wait for in volumes that have a bucket: the disk here (local), or the bucket as well (remote).' },
  maxUnshippedBytes: size([0, 0, 1024 * TIB], 'Chunks of one volume that may wait here for their bucket: from three quarters of it on writers are slowed, at it they wait; 0: as much as the disk takes.'),
  ownerCheckMs: milliseconds([5 * SECOND, 100, HOUR], 'While there are writes it is made sure this often that no other host has taken the volume over: one small request.'),
  maxPutsPerHour: count([0, 0, 1_000_000_000], 'Objects of one volume that are put in an hour, on the average; what somebody waits for, and what there is no space for here, goes at once and counts. 0: no limit.'),
  shipIntervalMs: milliseconds([0, 0, 24 * HOUR], 'What is less than 4 MiB, or is overwritten all the time, waits so long for more of it before it is shipped; 0: half of remote.lease_ms, so that the lease stays fresh while there are writes.'),
  orphanGraceMs: milliseconds([24 * HOUR, 60 * SECOND, 365 * 24 * HOUR], 'Objects of the bucket that nothing refers to, and old roots, are removed when they are this old.'),
  hotIntervalMs: milliseconds([600 * SECOND, 0, 24 * HOUR], 'With a root it is noted in the bucket this often at most which chunks were written or read last: one small object, that open-remote --prefetch goes by; 0: never.'),
  followIntervalMs: milliseconds([10 * SECOND, 0, 24 * HOUR], 'A volume of another host that is followed here looks this often for a newer state in the bucket, while it is open: three small requests; 0: when basalt refresh asks.'),
  pricePuts: amount([0.005, 0, 1e9], 'For the estimate of basalt show, in your currency: 1000 requests that write or list. The defaults are those of S3 Standard in us-east-1, in dollars...'),
  priceGets: amount([0.0004, 0, 1e9], '...1000 requests that read...'),
  priceStored: amount([0.023, 0, 1e9], '...a GiB stored for a month...'),
  priceReceived: amount([0.09, 0, 1e9], '...a GiB read from the store; 0 within its own network.'),
  attempts: count([5, 1, 100], 'Tries of one request to the bucket; reads of what is there alone are tried until their time is over.'),
  delayMs: milliseconds([100, 1, HOUR], 'Longest delay before the second try; it doubles with each...'),
  throttledDelayMs: milliseconds([SECOND, 1, HOUR], '...from this one where the store asks for fewer requests...'),
  delayMsMax: milliseconds([10 * SECOND, 1, HOUR], '...up to this at most.'),
  attemptTimeoutMs: milliseconds([30 * SECOND, 100, HOUR], 'One try of a request to the bucket is given up after this time...'),
  callTimeoutMs: milliseconds([120 * SECOND, 100, HOUR], '...and all tries together after this.'),
  connectTimeoutMs: milliseconds([3 * SECOND, 10, HOUR], 'The store must take a connection within this time.'),
  socketsMax: count([32, 1, 1024], 'Connections to the store at a time, one volume.'),
};

const SERVER: Table<ServerSettings> = {
  maxConnections: count([1024, 1, 65_536], 'Client connections at a time; one more takes the place of one that only negotiates, or is closed at once.'),
  maxConnectionsPerAddress: count([512, 0, 65_536], 'Of those, how many from one address (IPv6: one /64); 0: no limit of its own.'),
  maxHalfOpen: count([128, 1, 65_536], 'Clients that negotiate at a time; one more takes the place of the one that has been at it longest.'),
  handshakeTimeoutMs: milliseconds([10 * SECOND, 100, HOUR], 'A client that has not chosen its export within this time is dropped.'),
  maxOptions: count([1024, 16, 1_048_576], 'Handshake options one client may send.'),
  maxOptionBytes: size([64 * KIB, 8 * KIB, 64 * MIB], 'Longest data of one handshake option; a longer one closes the connection.'),
  maxRequestsInFlight: count([256, 1, 65_536], 'Unanswered requests of one connection; beyond it the socket is paused.'),
  maxReplyBytes: size([40 * MIB, MIB, 16 * GIB], 'Reply bytes of one connection that the client has not taken yet; beyond it the socket is paused.'),
  replyBytes: size([128 * MIB, MIB, TIB], 'Memory for replies that clients have not taken yet, their buffers whole, all connections together; beyond it only small reads go on.'),
  maxRequestBytes: size([32 * MIB, MIB, 64 * MIB], 'Largest READ or WRITE; clients are told.', 64 * KIB),
  payloadBytes: size([64 * MIB, MIB, TIB], 'Memory for write payloads above 512 KiB that have not arrived whole, all connections together. Below that each connection has one buffer of 520 KiB at most; once they take as much, too, clients that stall are dropped early.'),
  payloadTimeoutMs: milliseconds([60 * SECOND, 100, 24 * HOUR], 'A client that stops in the middle of a request is dropped after this time.'),
  idleTimeoutMs: milliseconds([0, 0, 7 * 24 * HOUR], 'A client that has an export and asks for nothing is closed after this time; 0: never. The Linux kernel may be silent for days.'),
  defaultExport: { type: 'text', default: '', maxBytes: 4096, description: 'Volume served for the export name ""; empty: the only volume there is.' },
  tls: { type: 'choice', default: 'off', values: TLS_MODES, description: 'TLS: off; selective, for exports that require it and clients that ask for it; forced, before anything else.' },
  tlsCertificates: { type: 'text', default: '', maxBytes: 4096, description: 'Directory of server-cert.pem, server-key.pem, ca-cert.pem, ca-crl.pem (basalt pki makes one); read again at SIGHUP.' },
  tlsPskFile: { type: 'text', default: '', maxBytes: 4096, description: 'File of pre-shared keys, lines of USER:HEX, as psktool makes it; read again at SIGHUP.' },
  tlsVerifyPeer: { type: 'flag', default: false, description: 'Clients must show a certificate that ca-cert.pem vouches for, or know a pre-shared key.' },
  tlsHandshakeTimeoutMs: milliseconds([10 * SECOND, 100, HOUR], 'A TLS handshake that takes longer ends its connection; an eighth of that while others wait.'),
  maxTlsHandshakes: count([64, 1, 65_536], 'TLS handshakes at a time; others wait.'),
  socketMode: { type: 'text', default: '0600', maxBytes: 4, form: { pattern: '^0?[0-7]{3}$', says: 'an octal mode such as 0660' }, description: 'Permissions of unix sockets; to connect takes the right to write.' },
  socketOwner: { type: 'text', default: '', maxBytes: 256, form: { pattern: '^([^:\\s]+(:[^:\\s]+)?|:[^:\\s]+)?$', says: 'USER, USER:GROUP or :GROUP' }, description: 'Owner of unix sockets, names or numbers; empty: whoever runs the server.' },
};

const CONTROL: Table<ControlSettings> = {
  listen: { type: 'text', default: '', maxBytes: 256, description: 'HOST:PORT where the control API listens, too, without TLS, for who shows the token: for Prometheus, say. Empty: on its unix socket alone.' },
  tokenFile: { type: 'text', default: '', maxBytes: 4096, description: 'File of that token: one word of 22 characters or more, that its owner alone may read.' },
  maxConnections: count([16, 1, 4096], 'Connections to the control socket, and its requests in work; one more is refused.'),
  maxBodyBytes: size([64 * KIB, KIB, 16 * MIB], 'Longest body of a control request.'),
  timeoutMs: milliseconds([10 * SECOND, 100, HOUR], 'A control request that has not arrived whole within this time is dropped.'),
};

const PROCESS: Table<ProcessSettings> = {
  workerThreads: count([2, 1, 64], 'Threads that build chunks.'),
  stopGraceMs: milliseconds([10 * SECOND, 0, HOUR], 'How long a stopping server waits for requests in flight before it closes their connections.'),
  diskEnduranceBytes: size([0, 0, 4096 * TIB], 'What may be written to the disk of the volumes in its life, by its data sheet (TBW): show tells how long that lasts; 0: not known.'),
};

const GROUPS = { engine: ENGINE, remote: REMOTE, server: SERVER, control: CONTROL, process: PROCESS } as const;

/** The name of a property in files and flags: `arenaBytes` is `arena_bytes`. */
function snakeCase(property: string): string {
  return property.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The table as a map from key (`engine.arena_bytes`) to setting, in the order in which people should read it. */
export const SETTINGS: ReadonlyMap<string, Setting> = new Map(
  Object.entries(GROUPS).flatMap(([group, table]) =>
    Object.entries<Setting>(table).map(([property, setting]): [string, Setting] => [`${group}.${snakeCase(property)}`, setting]),
  ),
);

/** Values by key; a key that is absent has its default. */
export type SettingValues = ReadonlyMap<string, SettingValue>;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function keysOf<T extends object>(table: T): (keyof T & string)[] {
  const isKey = (key: string): key is keyof T & string => Object.hasOwn(table, key);
  return Object.keys(table).filter(isKey);
}

/**
 * The settings objects for `values`, which must have been checked against the table (`parse-setting.ts`); the rest are
 * defaults. Relations between settings are not checked here but in `cross-checks.ts`.
 */
export function buildSettings(values: SettingValues = new Map(), exports: ExportTable = new Map()): ProgramSettings {
  const numberAt = (key: string, setting: NumberSetting): number => {
    const value = values.get(key);
    return typeof value === 'number' ? value : setting.default;
  };
  const textAt = (key: string, setting: TextSetting): string => {
    const value = values.get(key);
    return typeof value === 'string' ? value : setting.default;
  };
  const choiceAt = <T extends string>(key: string, setting: ChoiceSetting<T>): T => setting.values.find((choice) => choice === values.get(key)) ?? setting.default;
  const flagAt = (key: string, setting: FlagSetting): boolean => {
    const value = values.get(key);
    return typeof value === 'boolean' ? value : setting.default;
  };
  const { defaultExport, tls, tlsCertificates, tlsPskFile, tlsVerifyPeer, socketMode, socketOwner, ...serverNumbers } = SERVER;
  const { logCompress, chunkCompress, logIo, ...engineNumbers } = ENGINE;
  const { flushTarget, ...remoteNumbers } = REMOTE;
  const { listen, tokenFile, ...controlNumbers } = CONTROL;
  return {
    engine: {
      ...numbersOf('engine', engineNumbers, numberAt),
      logCompress: choiceAt('engine.log_compress', logCompress),
      chunkCompress: choiceAt('engine.chunk_compress', chunkCompress),
      logIo: choiceAt('engine.log_io', logIo),
    },
    remote: { ...numbersOf('remote', remoteNumbers, numberAt), flushTarget: choiceAt('remote.flush_target', flushTarget) },
    server: {
      ...numbersOf('server', serverNumbers, numberAt),
      defaultExport: textAt('server.default_export', defaultExport),
      tls: choiceAt('server.tls', tls),
      tlsCertificates: textAt('server.tls_certificates', tlsCertificates),
      tlsPskFile: textAt('server.tls_psk_file', tlsPskFile),
      tlsVerifyPeer: flagAt('server.tls_verify_peer', tlsVerifyPeer),
      socketMode: textAt('server.socket_mode', socketMode),
      socketOwner: textAt('server.socket_owner', socketOwner),
    },
    control: {
      ...numbersOf('control', controlNumbers, numberAt),
      listen: textAt('control.listen', listen),
      tokenFile: textAt('control.token_file', tokenFile),
    },
    process: numbersOf('process', PROCESS, numberAt),
    exports,
  };
}

function numbersOf<K extends string>(
  group: string,
  table: Readonly<Record<K, NumberSetting>>,
  numberAt: (key: string, setting: NumberSetting) => number,
): Readonly<Record<K, number>> {
  const isWhole = (draft: Partial<Record<K, number>>): draft is Record<K, number> => keysOf(table).every((property) => property in draft);
  const draft: Partial<Writable<Record<K, number>>> = {};
  for (const property of keysOf(table)) draft[property] = numberAt(`${group}.${snakeCase(property)}`, table[property]);
  assert(isWhole(draft), `settings table ${group} is complete`);
  return draft;
}
