/** A CliContext without a terminal or an engine: what was printed, and volumes that are only names. */
import { changedLimits, NO_LIMITS, type LimitChanges, type VolumeLimits } from '../../src/base/volume-limits.ts';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type VolumeCompression, chunkCompressionOf } from '../../src/base/compression.ts';
import type { Durability } from '../../src/base/durability.ts';
import { VolumeError } from '../../src/base/errors.ts';
import type { ChunkCompression } from '../../src/base/settings-types.ts';
import type { CliContext, DeviceTools, OpenVolumesOptions, PkiPlan, RunningServer, ServePlan, VolumeManager } from '../../src/cli/context.ts';
import type { DiskUse } from '../../src/cli/disk-life.ts';
import type { Host } from '../../src/cli/doctor/host.ts';
import type { Measured } from '../../src/cli/choose-profile.ts';
import { runCli } from '../../src/cli/program.ts';
import { type Labels, changedLabels } from '../../src/volume/volume-properties.ts';
import type { ChunkSpace, CreateOptions, ListedVolume, Probe, UnreadableVolume, VolumeInfo } from '../../src/volume/volume-info.ts';
import { PROJECT_ROOT } from './source-tree.ts';

export const notAsked = (): Promise<never> => Promise.reject(new Error('not asked for'));

export class FakeVolumes implements VolumeManager {
  readonly infos = new Map<string, VolumeInfo>();
  readonly damaged = new Set<string>();
  readonly unreadable: UnreadableVolume[] = [];
  /** What is found in each of them. */
  space: ChunkSpace | null = null;
  closed = 0;

  create(name: string, options: CreateOptions): Promise<VolumeInfo> {
    if (this.infos.has(name)) return Promise.reject(new VolumeError('already-exists', `volume ${name} exists`, { context: { volume: name } }));
    const info: VolumeInfo = {
      name,
      id: '0123456789abcdef0123456789abcdef',
      sizeBytes: options.sizeBytes,
      blockSizeBytes: options.blockSizeBytes,
      durability: options.durability,
      epoch: 3,
      createdMs: Date.UTC(2026, 10, 20, 10, 0, 0),
      checkpointNumber: 0,
      checkpointChunk: 0,
      checkpointLsn: 0,
      logFileBytes: 16 * 1024 * 1024,
      logFileCount: 4,
      logWay: 'buffered',
      measuredLogWay: null,
      logCompress: 'auto',
      compression: options.compression ?? 'default',
      chunkCompress: chunkCompressionOf(options.compression ?? 'default', 'off'),
      labels: {},
      limits: options.limits ?? NO_LIMITS,
      storedBytes: 4096,
      follows: null,
      open: false,
      damage: null,
      damageLookedFor: false,
    };
    this.infos.set(name, info);
    return Promise.resolve(info);
  }

  describe(name: string): Promise<VolumeInfo> {
    if (this.damaged.has(name)) return Promise.reject(new VolumeError('corrupt', `volume ${name}: manifest: bad checksum`));
    const info = this.infos.get(name);
    return info === undefined ? Promise.reject(new VolumeError('not-found', `no volume ${name}`)) : Promise.resolve(info);
  }

  describeAll(): Promise<ListedVolume[]> {
    return Promise.resolve([...this.infos.values(), ...this.unreadable].toSorted((first, second) => (first.name < second.name ? -1 : 1)));
  }

  /** As `damage` of the info has it, and `space`. */
  probe(name: string): Promise<Probe | null> {
    return Promise.resolve({ damage: this.infos.get(name)?.damage ?? null, space: this.space });
  }

  remove(name: string): Promise<void> {
    if (!this.infos.has(name) && !this.damaged.has(name)) return Promise.reject(new VolumeError('not-found', `no volume ${name}`));
    this.infos.delete(name);
    this.damaged.delete(name);
    return Promise.resolve();
  }

  async rename(name: string, target: string): Promise<void> {
    const info = await this.describe(name);
    if (this.infos.has(target)) throw new VolumeError('already-exists', `volume ${target} exists`);
    this.infos.delete(name);
    this.infos.set(target, { ...info, name: target });
  }

  /** As the real one, of a volume whose every byte is data. */
  async resize(name: string, sizeBytes: number, { mayShrink }: { readonly mayShrink: boolean }): Promise<void> {
    const info = await this.describe(name);
    if (sizeBytes < info.sizeBytes && !mayShrink) throw new VolumeError('invalid-argument', `making volume ${name} smaller cuts off ${info.sizeBytes - sizeBytes} bytes`, { context: { needsConsent: true, volume: name } });
    this.infos.set(name, { ...info, sizeBytes });
  }

  async labelsOf(name: string): Promise<Labels> {
    return (await this.describe(name)).labels;
  }

  async setLabels(name: string, changes: Readonly<Record<string, string | null>>): Promise<Labels> {
    const info = await this.describe(name);
    const labels = changedLabels(info.labels, changes);
    this.infos.set(name, { ...info, labels });
    return labels;
  }

  async limitsOf(name: string): Promise<VolumeLimits> {
    return (await this.describe(name)).limits;
  }

  async setLimits(name: string, changes: LimitChanges): Promise<VolumeLimits> {
    const info = await this.describe(name);
    const limits = changedLimits(info.limits, changes);
    this.infos.set(name, { ...info, limits });
    return limits;
  }

  openRemote = notAsked;
  takeOver = notAsked;
  drain = notAsked;
  follow: VolumeManager['follow'] = notAsked;
  refresh: VolumeManager['refresh'] = notAsked;

  setDurability(name: string, durability: Durability): Promise<void> {
    const info = this.infos.get(name);
    if (info === undefined) return Promise.reject(new VolumeError('not-found', `no volume ${name}`));
    this.infos.set(name, { ...info, durability });
    return Promise.resolve();
  }

  setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression> {
    const info = this.infos.get(name);
    if (info === undefined) return Promise.reject(new VolumeError('not-found', `no volume ${name}`));
    const chunkCompress = chunkCompressionOf(compression, 'off');
    this.infos.set(name, { ...info, compression, chunkCompress });
    return Promise.resolve(chunkCompress);
  }

  close(): Promise<void> {
    this.closed += 1;
    return Promise.resolve();
  }
}

/** A server that nobody asks for anything. */
export const NOT_ASKED: RunningServer = { volume: notAsked, volumes: notAsked, stats: notAsked, volumeStats: notAsked, describe: notAsked, create: notAsked, limitsOf: notAsked, setLimits: notAsked, remove: notAsked, rename: notAsked, resize: notAsked, labelsOf: notAsked, setLabels: notAsked, setDurability: notAsked, setCompression: notAsked, drain: notAsked, refresh: notAsked, scrub: notAsked };

export class FakeCli {
  readonly volumes = new FakeVolumes();
  /** The server that runs, and what it was asked for. */
  server: RunningServer | null = null;
  readonly asked: string[] = [];
  devices: DeviceTools | null = null;
  readonly opened: OpenVolumesOptions[] = [];
  readonly plans: ServePlan[] = [];
  readonly pkis: PkiPlan[] = [];
  readonly questions: string[] = [];
  readonly sleeps: number[] = [];
  readonly files = new Map<string, string>();
  environment: Record<string, string | undefined> = {};
  /** What is typed at a question; null: nobody is there. */
  answer: string | null = null;
  /** What `show` learns of the disk. */
  disk: DiskUse | null = null;
  /** The machine that `doctor` looks at. */
  host: Host | null = null;
  /** What `tune` finds. */
  measured: Measured | null = null;
  /** Of the terminal; null: there is none. */
  size: { columns: number; rows: number } | null = null;
  serveExitCode = 0;
  /** Sockets that systemd has opened. */
  activated: readonly number[] = [];
  out = '';
  error = '';

  /** What the program gets; it has no tools for volumes, as there are none. */
  get context(): CliContext {
    return {
      terminal: {
        isInteractive: this.answer !== null,
        size: () => this.size,
        out: (text) => void (this.out += text),
        error: (text) => void (this.error += text),
        ask: (question) => {
          this.questions.push(question);
          return Promise.resolve(this.answer ?? '');
        },
      },
      environment: this.environment,
      openVolumes: (options) => {
        this.opened.push(options);
        return Promise.resolve(this.volumes);
      },
      findServer: (directory) => {
        this.asked.push(directory);
        return Promise.resolve(this.server);
      },
      openAttach: () => (this.devices === null ? Promise.reject(new VolumeError('unsupported', 'the double has no devices')) : Promise.resolve(this.devices)),
      openTools: () => Promise.reject(new VolumeError('unsupported', 'the double has no tools')),
      serve: (plan) => {
        this.plans.push(plan);
        return Promise.resolve(this.serveExitCode);
      },
      makePki: (plan) => {
        this.pkis.push(plan);
        return Promise.resolve(['ca-cert.pem']);
      },
      sleep: (delayMs) => {
        this.sleeps.push(delayMs);
        return Promise.resolve();
      },
      takeActivation: () => this.activated,
      readProfile: (name) => readFile(join(PROJECT_ROOT, `config/${name}.toml`), 'utf8'),
      writeNewFile: (path, text) => {
        if (this.files.has(path)) return Promise.reject(new VolumeError('already-exists', `${path} is there already`));
        this.files.set(path, text);
        return Promise.resolve();
      },
      measureMachine: (directory) => {
        this.asked.push(directory);
        return this.measured === null ? notAsked() : Promise.resolve(this.measured);
      },
      diskUse: () => Promise.resolve(this.disk),
      openHost: () => (this.host === null ? notAsked() : Promise.resolve(this.host)),
      readFile: (path) => {
        const text = this.files.get(path);
        return text === undefined ? Promise.reject(new VolumeError('not-found', `no file ${path}`)) : Promise.resolve(text);
      },
    };
  }

  /** Runs `basalt <words>` with the output of earlier runs forgotten; resolves with the exit code. */
  run(...words: string[]): Promise<number> {
    this.out = '';
    this.error = '';
    return runCli(words, this.context, '1.2.3');
  }
}
