/** The control API from its other end: what the CLI asks of a running server. */
import { request } from 'node:http';
import { join } from 'node:path';
import type { VolumeCompression } from '../base/compression.ts';
import { CONTROL_SOCKET_NAME } from '../base/control-socket.ts';
import type { Durability } from '../base/durability.ts';
import { VolumeError, systemCode, toVolumeError, type ErrorContext } from '../base/errors.ts';
import type { ChunkCompression } from '../base/settings-types.ts';
import type { LimitChanges, VolumeLimits } from '../base/volume-limits.ts';
import type { CreateOptions, FollowStatus, OnProgress, ScrubReport, ShippingStatus, VolumeInfo } from '../volume/volume-info.ts';
import { isErrorCode } from './api-error.ts';
import type { ListedDetails, VolumeDetails } from './routes.ts';
import type { StatsAnswer, VolumeStatsAnswer } from './stats.ts';
import { isCompressionAnswer, isFollowStatus, isLabels, isProgress, isScrubReport, isShipping, isStats, isVolumeDetails, isVolumeLimits, isVolumeList, isVolumeStats } from './volume-details.ts';
import { withSocketPath } from './socket-file.ts';

/** A server that does not answer within this time is told of, not waited for. A change may have to wait for a slow disk. */
const ANSWER_MS = { GET: 10_000, PUT: 120_000, PATCH: 120_000, POST: 120_000, DELETE: 120_000 } as const;
/** A long task tells how far it is: this long it may say nothing. */
const SILENCE_MS = 120_000;
/** An answer longer than this is none of ours. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export class ControlClient {
  readonly #socket: string;

  constructor(directory: string) {
    this.#socket = join(directory, CONTROL_SOCKET_NAME);
  }

  /** A client of the server of a directory; null if none runs. Rejects with `io-error` if one is there and cannot be asked. */
  static async find(directory: string): Promise<ControlClient | null> {
    const client = new ControlClient(directory);
    try {
      await client.#ask('GET', '/v1/server', null);
      return client;
    } catch (error) {
      const code = error instanceof VolumeError ? systemCode(error.cause) : undefined;
      // Nobody has made a socket there, or who made it is dead.
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ECONNREFUSED') return null;
      throw error;
    }
  }

  /** Errors: those of `VolumeSet.describe`, and `io-error`. */
  async volume(name: string): Promise<VolumeDetails> {
    const details = await this.#ask('GET', `/v1/volumes/${encodeURIComponent(name)}`, null);
    if (!isVolumeDetails(details)) throw this.#notUnderstood('what it says of a volume');
    return details;
  }

  /** All volumes, by name. Errors: `io-error`. */
  async volumes(): Promise<readonly ListedDetails[]> {
    const list = await this.#ask('GET', '/v1/volumes', null);
    if (!isVolumeList(list)) throw this.#notUnderstood('its list of volumes');
    return list.volumes;
  }

  /** What the server and all its volumes do. Errors: `io-error`. */
  async stats(): Promise<StatsAnswer> {
    const stats = await this.#ask('GET', '/v1/stats', null);
    if (!isStats(stats)) throw this.#notUnderstood('its statistics');
    return stats;
  }

  /** Errors: those of `VolumeSet.describe`, and `io-error`. */
  async volumeStats(name: string): Promise<VolumeStatsAnswer> {
    const stats = await this.#ask('GET', `/v1/volumes/${encodeURIComponent(name)}/stats`, null);
    if (!isVolumeStats(stats)) throw this.#notUnderstood('the statistics of a volume');
    return stats;
  }

  /** The same as `volume`. */
  describe(name: string): Promise<VolumeDetails> {
    return this.volume(name);
  }

  /** Errors: those of `VolumeSet.remove`, and `io-error`. */
  async remove(name: string): Promise<void> {
    await this.#ask('DELETE', `/v1/volumes/${encodeURIComponent(name)}`, null);
  }

  /** Errors: those of `VolumeSet.rename`, and `io-error`. */
  async rename(name: string, target: string): Promise<void> {
    await this.#ask('PUT', `/v1/volumes/${encodeURIComponent(name)}/name`, { name: target });
  }

  /** Errors: those of `VolumeSet.resize`, and `io-error`. */
  async resize(name: string, sizeBytes: number, { mayShrink }: { readonly mayShrink: boolean }): Promise<void> {
    await this.#ask('PUT', `/v1/volumes/${encodeURIComponent(name)}/size`, { sizeBytes, acceptDataLoss: mayShrink });
  }

  /** Errors: those of `VolumeSet.labelsOf`, and `io-error`. */
  async labelsOf(name: string): Promise<Readonly<Record<string, string>>> {
    return this.#labels(await this.#ask('GET', `/v1/volumes/${encodeURIComponent(name)}/labels`, null));
  }

  /** Errors: those of `VolumeSet.setLabels`, and `io-error`. */
  async setLabels(name: string, changes: Readonly<Record<string, string | null>>): Promise<Readonly<Record<string, string>>> {
    return this.#labels(await this.#ask('PATCH', `/v1/volumes/${encodeURIComponent(name)}/labels`, { labels: changes }));
  }

  #labels(answer: unknown): Readonly<Record<string, string>> {
    const labels = memberOf(answer, 'labels');
    if (!isLabels(labels)) throw this.#notUnderstood('what it says of labels');
    return labels;
  }

  /** Errors: those of `VolumeSet.limitsOf`, and `io-error`. */
  async limitsOf(name: string): Promise<VolumeLimits> {
    return this.#limits(await this.#ask('GET', `/v1/volumes/${encodeURIComponent(name)}/limits`, null));
  }

  /** In force at once. Errors: those of `VolumeSet.setLimits`, and `io-error`. */
  async setLimits(name: string, limits: LimitChanges): Promise<VolumeLimits> {
    return this.#limits(await this.#ask('PATCH', `/v1/volumes/${encodeURIComponent(name)}/limits`, { limits }));
  }

  #limits(answer: unknown): VolumeLimits {
    const limits = memberOf(answer, 'limits');
    if (!isVolumeLimits(limits)) throw this.#notUnderstood('what it says of limits');
    return limits;
  }

  /** Makes a volume with the log files that the server's settings say. Errors: those of `VolumeSet.create`, and `io-error`. */
  async create(name: string, options: CreateOptions): Promise<VolumeInfo> {
    // Whoever calls has the consent of the volume's owner.
    const made = await this.#ask('POST', '/v1/volumes', { name, ...options, acceptDataLoss: options.durability === 'async' });
    if (!isVolumeDetails(made)) throw this.#notUnderstood('what it says of a volume');
    const { live: _live, ...info } = made;
    return info;
  }

  /** Errors: those of `VolumeSet.setDurability`, and `io-error`. */
  async setDurability(name: string, durability: Durability): Promise<void> {
    // Whoever calls has the consent of the volume's owner.
    await this.#ask('PUT', `/v1/volumes/${encodeURIComponent(name)}/durability`, { durability, acceptDataLoss: durability === 'async' });
  }

  /** What becomes of new chunks now. Errors: those of `VolumeSet.setCompression`, and `io-error`. */
  async setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression> {
    const answer = await this.#ask('PUT', `/v1/volumes/${encodeURIComponent(name)}/compression`, { compression });
    if (!isCompressionAnswer(answer)) throw this.#notUnderstood('what it says of the compression of a volume');
    return answer.chunkCompress;
  }

  /** Ends when this process does. Errors: those of `VolumeSet.scrub`, and `io-error`. */
  async scrub(name: string, bytesPerSecond: number | null, onProgress: OnProgress): Promise<ScrubReport> {
    const outcome = await this.#askLong(`/v1/volumes/${encodeURIComponent(name)}/scrub`, { bytesPerSecond }, onProgress);
    const report = memberOf(outcome, 'report');
    if (!isScrubReport(report)) throw this.#notUnderstood('what it says of a scrub');
    return report;
  }

  /** Ends when the bucket has everything, or this process does. Errors: those of `VolumeSet.drain`, and `io-error`. */
  async drain(name: string, onProgress: OnProgress): Promise<ShippingStatus | null> {
    const outcome = await this.#askLong(`/v1/volumes/${encodeURIComponent(name)}/drain`, {}, onProgress);
    const shipping = memberOf(memberOf(outcome, 'report'), 'shipping');
    if (shipping !== null && !isShipping(shipping)) throw this.#notUnderstood('what it says of a bucket');
    return shipping;
  }

  /** Errors: those of `VolumeSet.refresh`, and `io-error`. */
  async refresh(name: string): Promise<FollowStatus> {
    const following = memberOf(await this.#ask('POST', `/v1/volumes/${encodeURIComponent(name)}/refresh`, {}), 'following');
    if (!isFollowStatus(following)) throw this.#notUnderstood('what it says of a volume that is followed');
    return following;
  }

  /** The last line of the answer, which is no progress and no error. */
  async #askLong(path: string, body: unknown, onProgress: OnProgress): Promise<unknown> {
    let last: unknown = null;
    const take = (line: string): void => {
      const value = parsed(line);
      const progress = memberOf(value, 'progress');
      if (isProgress(progress)) onProgress(progress);
      else last = value;
    };
    const status = await withSocketPath(this.#socket, (socketPath) => exchangeLines(socketPath, path, body, take)).catch((error: unknown) => {
      throw toVolumeError(error, `asking the server at ${this.#socket}`);
    });
    if (status !== 200 || memberOf(last, 'error') !== undefined) throw this.#errorOf({ status, body: last });
    return last;
  }

  #notUnderstood(what: string): VolumeError {
    return new VolumeError('unsupported', `the server at ${this.#socket} speaks another version: ${what} is not understood; use the same version of basalt on both sides`);
  }

  async #ask(method: keyof typeof ANSWER_MS, path: string, body: unknown): Promise<unknown> {
    let answer: Answer;
    try {
      answer = await withSocketPath(this.#socket, (socketPath) => exchange(socketPath, method, path, body));
    } catch (error) {
      const hint = systemCode(error) === 'EACCES' ? ' (it belongs to another user: ask as that user, or as root)' : '';
      throw toVolumeError(error, `asking the server at ${this.#socket}${hint}`);
    }
    if (answer.status === 200 || answer.status === 201) return answer.body;
    throw this.#errorOf(answer);
  }

  #errorOf({ status, body }: Answer): VolumeError {
    const error = typeof body === 'object' && body !== null && 'error' in body ? body.error : null;
    if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error && typeof error.message === 'string') {
      if (isErrorCode(error.code)) return new VolumeError(error.code, error.message, { context: contextOf(memberOf(error, 'context')) });
      return new VolumeError('unsupported', `the server at ${this.#socket} refuses: ${error.message}`);
    }
    return this.#notUnderstood(`an answer with status ${status}`);
  }
}

function exchange(socketPath: string, method: keyof typeof ANSWER_MS, path: string, body: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const text = body === null ? '' : JSON.stringify(body);
    const headers = body === null ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const call = request({ socketPath, method, path, headers, agent: false, signal: AbortSignal.timeout(ANSWER_MS[method]) }, (response) => {
      const parts: Buffer[] = [];
      let length = 0;
      response.on('data', (part: Buffer) => {
        parts.push(part);
        length += part.length;
        if (length > MAX_ANSWER_BYTES) response.destroy(new Error(`its answer is longer than ${MAX_ANSWER_BYTES} bytes`));
      });
      response.on('error', reject);
      response.on('end', () => {
        const value = parsed(Buffer.concat(parts).toString('utf8'));
        if (value === undefined) reject(new Error('its answer is not JSON'));
        else resolve({ status: response.statusCode ?? 0, body: value });
      });
    });
    call.on('error', (error) => reject(systemCode(error) === 'ABORT_ERR' ? new Error(`no answer within ${ANSWER_MS[method] / 1000} s`, { cause: error }) : error));
    call.end(text);
  });
}

function isPlain(entry: [string, unknown]): entry is [string, string | number | boolean | null] {
  return entry[1] === null || ['string', 'number', 'boolean'].includes(typeof entry[1]);
}

/** What an error's context may hold; the rest is left out. */
function contextOf(value: unknown): ErrorContext {
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return Object.fromEntries(entries.filter(isPlain));
}

/** A member of an object; undefined if it has none of that name. */
function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? new Map<string, unknown>(Object.entries(value)).get(name) : undefined;
}

/** Posts `body` and hands over the lines of the answer; an error's answer, which may be of several lines, as one. Resolves with the status. */
function exchangeLines(socketPath: string, path: string, body: unknown, take: (line: string) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const call = request({ socketPath, method: 'POST', path, headers, agent: false }, (response) => {
      const isLines = response.headers['content-type'] === 'application/x-ndjson';
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        const lines = `${rest}${part}`.split(isLines ? '\n' : '\0');
        rest = lines.pop() ?? '';
        for (const line of lines) take(line);
        if (rest.length > MAX_ANSWER_BYTES) response.destroy(new Error(`its answer is longer than ${MAX_ANSWER_BYTES} bytes`));
      });
      response.on('error', reject);
      response.on('end', () => {
        if (rest !== '') take(rest);
        resolve(response.statusCode ?? 0);
      });
    });
    call.setTimeout(SILENCE_MS, () => call.destroy(new Error(`it said nothing for ${SILENCE_MS / 1000} s`)));
    call.on('error', reject);
    call.end(text);
  });
}

/** The value of a JSON text; undefined if it is none. */
function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    return undefined;
  }
}
