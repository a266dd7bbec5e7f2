/** Which way a volume's log is written: what the settings ask for, and what the machine can do. */
import type { Durability } from '../base/durability.ts';
import type { EngineSettings, LogIo, LogWay, MeasuredLogWay } from '../base/settings-types.ts';
import type { Env, File } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { DirectLog } from '../wal/direct-log.ts';
import type { LogFile } from '../wal/log-options.ts';
import { MappedLog } from '../wal/mapped-log.ts';
import { logPath } from './volume-files.ts';

/** What the settings ask for, in one mode; `direct` is for strict alone. */
export function wantedLogWay(logIo: LogIo, measured: MeasuredLogWay | null, durability: Durability): LogWay {
  const way = chosenWay(logIo, measured);
  return way === 'direct' && durability !== 'strict' ? 'buffered' : way;
}

function chosenWay(logIo: LogIo, measured: MeasuredLogWay | null): LogWay {
  return logIo === 'auto' ? (measured ?? 'buffered') : logIo;
}

export interface OpenLogWayOptions {
  readonly env: Env;
  /** For messages. */
  readonly name: string;
  /** The volume's directory. */
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly manifest: Manifest;
  /** The log's files, opened for plain writes; their owner closes them. */
  readonly plainFiles: readonly File[];
}

/** How an open volume writes its log. */
export class LogWriting {
  /** For the log writer. */
  readonly files: readonly LogFile[];
  readonly direct: DirectLog | null;
  readonly #mapped: MappedLog | null;

  private constructor(plainFiles: readonly File[], direct: DirectLog | null, mapped: MappedLog | null) {
    this.files = mapped?.files ?? plainFiles;
    this.direct = direct;
    this.#mapped = mapped;
  }

  /** Plain writes, with a warning, where the machine cannot do what is asked for. Direct files are opened in every mode: it may be changed to strict. */
  static async open({ env, name, directory, settings, manifest, plainFiles }: OpenLogWayOptions): Promise<LogWriting> {
    const way = chosenWay(settings.logIo, manifest.measuredLogWay);
    const paths = plainFiles.map((_, index) => logPath(directory, index));
    const options = { files: env.files, logger: env.logger, volume: name, paths, plainFiles, fileBytes: manifest.logFileBytes };
    const direct = way === 'direct' ? await DirectLog.open(options) : null;
    const mapped = way === 'mmap' ? await MappedLog.open(options) : null;
    return new LogWriting(plainFiles, direct, mapped);
  }

  /** What is done now, in one mode: a kernel may have refused what was asked for. */
  wayIn(durability: Durability): LogWay {
    if (this.#mapped?.isInUse === true) return 'mmap';
    return durability === 'strict' && this.direct?.isInUse === true ? 'direct' : 'buffered';
  }

  async close(): Promise<void> {
    await Promise.all([this.direct?.close(), this.#mapped?.close()]);
  }
}
