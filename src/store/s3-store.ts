/**
 * The door of @aws-sdk/client-s3: one try at each request of a bucket, and `openS3Store`, which puts retries around it. The SDK takes 94 ms to load, so it
 * is loaded when the first bucket is opened. Its own retries are off: ours are in `retry.ts`, on the Env's clock.
 *
 * Portability: bodies are whole buffers with a known length (streams are sent as aws-chunked, which some stores refuse and one stored as it came); paths
 * in place of host names; no checksum headers unless they are asked for (Backblaze, OVH, old R2 refuse them). `Expect: 100-continue`
 * is off: with it the SDK makes a new agent for each body of 2 MiB, past the limit of sockets and without keep-alive.
 */
import type * as S3 from '@aws-sdk/client-s3';
import type { GetObjectCommandOutput, S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { forEachLimited } from '../base/async.ts';
import { checksumC } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { S3Settings } from '../base/settings-types.ts';
import type { Env } from '../env/env.ts';
import type { AnswerHead } from './range-connection.ts';
import { RULES, RemoteError, remoteError, toRemoteError, type FailureRule } from './remote-errors.ts';
import { isRemoteKey, newCounters, type PageRequest, type RemoteObject, type RemotePage, type RemotePlace, type RemoteStore, type RemoteTransport, type RequestCounters } from './remote-store.ts';
import { RetryingStore } from './retrying-store.ts';
import { readCredentials, readText } from './s3-credentials.ts';
import { S3Ranges, rangeSockets } from './s3-ranges.ts';

type Sdk = typeof S3;

/**
 * From this length on a body is sent with its CRC-32C in place of its SHA-256 in the signature, where the store refuses a body that does not fit: a Ceph gateway took puts of 4 MiB a quarter
 * quicker so (141 and 148 MB/s with a signed hash, 179 and 185 so; with CRC-32, which it computes slowly, 121 and 128), at 3.5 ms of our time and not 5.2.
 */
const CRC_BYTES_MIN = 256 * 1024;
/** Never written: what is put here has a wrong checksum. */
const CRC_PROBE = 'probe-checksum';
const WRONG_CRC = 1;
/** Words of stores that have refused an object for its checksum. */
const WRONG_CHECKSUM = new Set(['BadDigest', 'XAmzContentChecksumMismatch']);

const LIST_KEYS_MAX = 1000;
const SINGLE_REMOVES_AT_A_TIME = 8;
/** Answers to DeleteObjects of stores that want a Content-MD5 that the SDK no longer sends, or do not have it. */
const NO_BATCH_REMOVE = new Set(['MissingContentMD5', 'NotImplemented', 'MethodNotAllowed', 'InvalidRequest', 'MalformedXML']);

/** Opens a bucket. No request is made yet. Rejects with `invalid-argument` for settings that cannot be. */
export async function openS3Store(env: Env, settings: S3Settings): Promise<RemoteStore> {
  return new RetryingStore(await openS3Transport(env, settings), env, settings.retries);
}

export async function openS3Transport(env: Pick<Env, 'files'>, settings: S3Settings): Promise<RemoteTransport> {
  checkSettings(settings);
  const ca = settings.caFile === null ? null : await readText(env.files, settings.caFile, 'CA file');
  if (settings.credentialsFile !== null) await readCredentials(env.files, settings.credentialsFile, settings.profile); // to be told now
  return new S3Transport(await import('@aws-sdk/client-s3'), env, settings, ca);
}

const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/u;

function refuse(what: string): never {
  throw new VolumeError('invalid-argument', what);
}

function checkSettings({ endpoint, bucket, prefix, region }: S3Settings): void {
  if (endpoint !== null && !(URL.canParse(endpoint) && /^https?:\/\/[^/?#@]+\/?$/u.test(endpoint))) {
    refuse(`the endpoint "${endpoint}" is no address; expected http://HOST[:PORT] or https://HOST[:PORT], without a path`);
  }
  if (!BUCKET.test(bucket)) refuse(`"${bucket}" cannot be the name of a bucket`);
  if (region === '') refuse('a region is needed; most stores but Amazon take us-east-1');
  const trimmed = prefix.replace(/\/$/u, '');
  if (trimmed !== '' && !isRemoteKey(trimmed)) refuse(`the prefix "${prefix}" must be of a-z, 0-9, ".", "_", "-", with single slashes between names`);
}

function placeOf({ endpoint, bucket, prefix, region }: S3Settings): RemotePlace {
  return { endpoint: endpoint ?? `Amazon S3 (${region})`, bucket, prefix: prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/` };
}

/** Fields of a put: a CRC-32C as S3 writes it. */
function fieldsOf(crc: number): { readonly ChecksumAlgorithm: 'CRC32C'; readonly ChecksumCRC32C: string } {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc >>> 0);
  return { ChecksumAlgorithm: 'CRC32C', ChecksumCRC32C: bytes.toString('base64') };
}

/** A step of the SDK's: the signature covers the header with the checksum, and not the body. */
function leaveUnsigned<T extends { readonly request: unknown }, Output>(next: (args: T) => Promise<Output>): (args: T) => Promise<Output> {
  return (args) => {
    const { request } = args;
    if (typeof request === 'object' && request !== null && 'headers' in request && typeof request.headers === 'object' && request.headers !== null) Reflect.set(request.headers, 'x-amz-content-sha256', 'UNSIGNED-PAYLOAD');
    return next(args);
  };
}

/** What an answer says of itself; undefined where it does not. */
interface RangeAnswer {
  readonly status: number | undefined;
  readonly range: string | undefined;
  readonly bodyBytes: number | undefined;
}

type Body = AsyncIterable<unknown> & { destroy(): void };

function isBody(body: unknown): body is Body {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body && 'destroy' in body && typeof body.destroy === 'function';
}

const SILENT = { trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore };

function ignore(): void {
  // The SDK warns of requests that wait for a socket: here that is what the limit is for.
}

class S3Transport implements RemoteTransport {
  readonly place: RemotePlace;
  readonly counters: RequestCounters = newCounters();
  readonly #sdk: Sdk;
  readonly #env: Pick<Env, 'files'>;
  readonly #settings: S3Settings;
  readonly #ca: string | null;
  /** Sockets outlive a client whose credentials were refused. */
  #handler: S3Client['config']['requestHandler'] | null = null;
  #client: S3Client | null = null;
  /** Null: ranges go by the SDK, too. */
  readonly #ranges: S3Ranges | null;
  #hasBatchRemove = true;
  /** Whether the store refuses objects whose CRC-32C is not the one sent with them; null: not known yet. */
  #checksCrc: Promise<boolean> | null = null;

  constructor(sdk: Sdk, env: Pick<Env, 'files'>, settings: S3Settings, ca: string | null) {
    this.place = placeOf(settings);
    this.#sdk = sdk;
    this.#env = env;
    this.#settings = settings;
    this.#ca = ca;
    const { endpoint } = settings;
    this.#ranges = endpoint === null || rangeSockets(settings) === 0 ? null : new S3Ranges(endpoint, settings, ca, this.counters);
  }

  async put(key: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#put(key, body, signal, {});
  }

  async putIfAbsent(key: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#put(key, body, signal, { IfNoneMatch: '*' });
  }

  async #put(key: string, body: Uint8Array, signal: AbortSignal, condition: { readonly IfNoneMatch?: string }): Promise<void> {
    this.counters.puts += 1;
    this.counters.sentBytes += body.length;
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
    const crc = checksumC !== null && bytes.length >= CRC_BYTES_MIN && (await this.#isCrcChecked(signal)) ? checksumC(bytes) : null;
    const command = new this.#sdk.PutObjectCommand({ ...this.#target(key), Body: bytes, ContentLength: bytes.length, ...condition, ...(crc === null ? {} : fieldsOf(crc)) });
    if (crc !== null) command.middlewareStack.add(leaveUnsigned, { step: 'build', name: 'unsignedPayload' });
    const answer = await this.#send('writing', key, (client) => client.send(command, { abortSignal: signal }));
    if (!answer.ETag) throw this.#wrong(RULES.notAStore, 'writing', key, 'no ETag', 'the answer has no ETag, which every S3 store sends');
  }

  async #isCrcChecked(signal: AbortSignal): Promise<boolean> {
    const asking = (this.#checksCrc ??= this.#askForCrc(signal));
    try {
      return await asking;
    } catch (error) {
      if (!(error instanceof RemoteError) && !signal.aborted) throw error;
      if (this.#checksCrc === asking) this.#checksCrc = null; // nothing is known: the next one asks again, and this one goes the sure way
      return false;
    }
  }

  /** Sends a few bytes with a checksum that is not theirs. A store that takes them, or refuses the header, is sent no checksums. */
  async #askForCrc(signal: AbortSignal): Promise<boolean> {
    const bytes = Buffer.from('not what was meant');
    this.counters.puts += 1;
    this.counters.sentBytes += bytes.length;
    const command = new this.#sdk.PutObjectCommand({ ...this.#target(CRC_PROBE), Body: bytes, ContentLength: bytes.length, ...fieldsOf(WRONG_CRC) });
    try {
      await this.#send('asking for checksums at', CRC_PROBE, (client) => client.send(command, { abortSignal: signal }));
    } catch (error) {
      if (error instanceof RemoteError && WRONG_CHECKSUM.has(error.word)) return true;
      if (!(error instanceof RemoteError) || error.failure === 'denied' || error.failure === 'throttled' || error.code === 'unavailable') throw error;
      return false;
    }
    await this.#removeOne(CRC_PROBE, signal);
    return false;
  }

  async getRange(key: string, target: Uint8Array, offsetBytes: number, signal: AbortSignal): Promise<void> {
    if (await this.#getRangeQuickly(key, target, offsetBytes, signal)) return;
    const lastByte = offsetBytes + target.length - 1;
    const answer = await this.#get(key, `bytes=${offsetBytes}-${lastByte}`, signal);
    if (answer === null) throw this.#endsBefore(key, offsetBytes, lastByte);
    const body = this.#bodyOf(key, answer);
    try {
      this.#checkRange(key, { status: answer.$metadata.httpStatusCode, range: answer.ContentRange, bodyBytes: answer.ContentLength }, offsetBytes, target.length);
      await this.#fill(key, body, target, signal);
    } finally {
      body.destroy();
    }
  }

  /** False: it is to be asked for by the SDK. */
  async #getRangeQuickly(key: string, target: Uint8Array, offsetBytes: number, signal: AbortSignal): Promise<boolean> {
    const ranges = this.#ranges;
    if (ranges === null) return false;
    const take = ({ status, headers, bodyBytes }: AnswerHead): Uint8Array => {
      this.#checkRange(key, { status, range: headers.get('content-range'), bodyBytes }, offsetBytes, target.length);
      return target;
    };
    const path = `/${this.#settings.bucket}/${this.place.prefix}${key}`;
    return this.#send('reading', key, (client) => ranges.get(client, path, `bytes=${offsetBytes}-${offsetBytes + target.length - 1}`, take, signal));
  }

  /** Before a byte of the body is taken: is this the range that was asked for? */
  #checkRange(key: string, { status, range, bodyBytes }: RangeAnswer, offsetBytes: number, lengthBytes: number): void {
    const lastByte = offsetBytes + lengthBytes - 1;
    const asked = `bytes ${offsetBytes}-${lastByte}`;
    if (status !== 206) throw this.#wrongRange(key, `status ${status} for a range, not 206`);
    const parts = /^bytes (\d+)-(\d+)\/(\d+|\*)$/u.exec(range ?? '');
    if (parts === null) throw this.#wrongRange(key, `Content-Range "${range}"`);
    const [first, last, size] = parts.slice(1).map(Number);
    if (size !== undefined && size <= lastByte) throw this.#endsBefore(key, size, lastByte);
    if (first !== offsetBytes || last !== lastByte) throw this.#wrongRange(key, `Content-Range "${range}", asked for ${asked}`);
    if (bodyBytes !== undefined && bodyBytes !== lengthBytes) throw this.#wrongRange(key, `${bodyBytes} bytes for ${asked}`);
  }

  async getWhole(key: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#get(key, undefined, signal);
    if (answer === null) throw this.#wrongRange(key, 'status 416 for a whole object');
    const body = this.#bodyOf(key, answer);
    try {
      const lengthBytes = answer.ContentLength;
      if (answer.$metadata.httpStatusCode !== 200 || lengthBytes === undefined) throw this.#wrongRange(key, `status ${answer.$metadata.httpStatusCode}, length ${lengthBytes}`);
      if (lengthBytes > maxBytes) throw this.#wrong(RULES.damaged, 'reading', key, 'too long', `it has ${lengthBytes} bytes, expected at most ${maxBytes}`);
      const target = Buffer.allocUnsafe(lengthBytes); // filled whole, or thrown away
      await this.#fill(key, body, target, signal);
      return target;
    } finally {
      body.destroy();
    }
  }

  /**
   * By asking for the first byte: a HEAD that fails has no body to say why, and then a bucket that is not there looks like an object
   * that is not there, and an expired key like a missing permission.
   */
  async head(key: string, signal: AbortSignal): Promise<number> {
    const answer = await this.#get(key, 'bytes=0-0', signal);
    if (answer === null) return 0; // it has no first byte
    const body = this.#bodyOf(key, answer);
    if (answer.$metadata.httpStatusCode === 206) await this.#fill(key, body, new Uint8Array(1), signal); // so that the connection can be used again
    else body.destroy();
    if (answer.$metadata.httpStatusCode === 200 && answer.ContentLength !== undefined) return answer.ContentLength;
    const size = /^bytes 0-0\/(\d+)$/u.exec(answer.ContentRange ?? '')?.[1];
    if (size === undefined) throw this.#wrongRange(key, `Content-Range "${answer.ContentRange}"`);
    return Number(size);
  }

  /** Null: the object has no byte of the range (416). */
  async #get(key: string, range: string | undefined, signal: AbortSignal): Promise<GetObjectCommandOutput | null> {
    this.counters.gets += 1;
    const command = new this.#sdk.GetObjectCommand({ ...this.#target(key), ...(range === undefined ? {} : { Range: range }) });
    try {
      return await this.#send('reading', key, (client) => client.send(command, { abortSignal: signal }));
    } catch (error) {
      if (error instanceof RemoteError && error.word === 'InvalidRange') return null;
      throw error;
    }
  }

  #bodyOf(key: string, answer: GetObjectCommandOutput): Body {
    const body: unknown = answer.Body;
    if (!isBody(body)) throw this.#wrongRange(key, 'no body');
    return body;
  }

  /** Fills `target` from a body that must be just as long. */
  async #fill(key: string, body: Body, target: Uint8Array, signal: AbortSignal): Promise<void> {
    let got = 0;
    try {
      for await (const part of body) {
        signal.throwIfAborted(); // the caller has its target back
        if (!(part instanceof Uint8Array)) throw this.#wrongRange(key, 'a body that is no bytes');
        this.counters.receivedBytes += part.length;
        if (got + part.length > target.length) throw this.#wrongRange(key, `more than ${target.length} bytes`);
        target.set(part, got);
        got += part.length;
      }
    } catch (error) {
      if (error instanceof Error && error.message.startsWith('Checksum mismatch')) throw this.#wrong(RULES.wrongAnswer, 'reading', key, 'checksum', error.message);
      throw error;
    }
    if (got !== target.length) throw this.#wrongRange(key, `${got} bytes, expected ${target.length}`);
  }

  async listPage({ prefix, startAfter, token }: PageRequest, signal: AbortSignal): Promise<RemotePage> {
    this.counters.lists += 1;
    const { bucket } = this.#settings;
    const from = token === undefined ? { StartAfter: startAfter === undefined ? undefined : this.place.prefix + startAfter } : { ContinuationToken: token };
    const command = new this.#sdk.ListObjectsV2Command({ Bucket: bucket, Prefix: this.place.prefix + prefix, MaxKeys: LIST_KEYS_MAX, ...from });
    const answer = await this.#send('listing', prefix, (client) => client.send(command, { abortSignal: signal }));
    const bad = (what: string): RemoteError => this.#wrong(RULES.wrongAnswer, 'listing', prefix, 'bad list', what);
    const objects = (answer.Contents ?? []).map(({ Key, Size, LastModified }): RemoteObject => {
      if (Key === undefined || Size === undefined || LastModified === undefined) throw bad('an object without key, size or time');
      if (!Key.startsWith(this.place.prefix + prefix)) throw bad(`${Key} is not of the prefix that was asked for`);
      return { key: Key.slice(this.place.prefix.length), sizeBytes: Size, modifiedMs: LastModified.getTime() };
    });
    const next = answer.IsTruncated === true ? answer.NextContinuationToken : null;
    if (next === undefined) throw bad('more is to come, but not where');
    return { objects, next };
  }

  async remove(keys: readonly string[], signal: AbortSignal): Promise<void> {
    if (keys.length > 1 && this.#hasBatchRemove && (await this.#removeBatch(keys, signal))) return;
    await forEachLimited(keys, SINGLE_REMOVES_AT_A_TIME, (key) => this.#removeOne(key, signal));
  }

  async #removeOne(key: string, signal: AbortSignal): Promise<void> {
    this.counters.deletes += 1;
    const command = new this.#sdk.DeleteObjectCommand(this.#target(key));
    try {
      await this.#send('removing', key, (client) => client.send(command, { abortSignal: signal }));
    } catch (error) {
      if (!(error instanceof RemoteError) || error.failure !== 'not-found') throw error;
    }
  }

  /** False: the store does not remove several at once. */
  async #removeBatch(keys: readonly string[], signal: AbortSignal): Promise<boolean> {
    this.counters.deletes += 1;
    const objects = keys.map((key) => ({ Key: this.place.prefix + key }));
    const command = new this.#sdk.DeleteObjectsCommand({ Bucket: this.#settings.bucket, Delete: { Quiet: true, Objects: objects } });
    try {
      const answer = await this.#send('removing', keys[0] ?? '', (client) => client.send(command, { abortSignal: signal }));
      const failed = (answer.Errors ?? []).find(({ Code }) => Code !== 'NoSuchKey');
      if (failed !== undefined) {
        const key = (failed.Key ?? '').slice(this.place.prefix.length);
        throw toRemoteError(Object.assign(new Error(failed.Message), { Code: failed.Code }), { doing: 'removing', place: this.place, key });
      }
      return true;
    } catch (error) {
      if (!(error instanceof RemoteError) || !NO_BATCH_REMOVE.has(error.word)) throw error;
      this.#hasBatchRemove = false;
      return false;
    }
  }

  close(): void {
    this.#ranges?.close();
    this.#handler?.destroy?.();
    this.#client = null;
  }

  #target(key: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#settings.bucket, Key: this.place.prefix + key };
  }

  async #send<T>(doing: string, key: string, send: (client: S3Client) => Promise<T>, isSecond = false): Promise<T> {
    const client = (this.#client ??= this.#createClient());
    try {
      return await send(client);
    } catch (caught) {
      const error = toRemoteError(caught, { doing, place: this.place, key });
      // The SDK signs by the store's clock from its first refusal on: a machine whose clock is wrong is served.
      if (error.word === 'RequestTimeTooSkewed' && !isSecond) return await this.#send(doing, key, send, true);
      if (error.failure === 'throttled') this.counters.throttled += 1;
      // The next request asks for credentials anew: they may have been renewed.
      if (error.failure === 'denied' && error.word !== 'RequestTimeTooSkewed' && this.#client === client) this.#client = null;
      throw error;
    }
  }

  #createClient(): S3Client {
    const { endpoint, region, pathStyle, checksums, credentialsFile, profile, socketsMax, connectTimeoutMs } = this.#settings;
    const agent = { keepAlive: true, maxSockets: socketsMax - rangeSockets(this.#settings) };
    const config: S3ClientConfig = {
      region,
      forcePathStyle: pathStyle ?? endpoint !== null,
      requestChecksumCalculation: checksums === 'off' ? 'WHEN_REQUIRED' : 'WHEN_SUPPORTED',
      responseChecksumValidation: checksums === 'off' ? 'WHEN_REQUIRED' : 'WHEN_SUPPORTED',
      maxAttempts: 1,
      expectContinueHeader: false,
      requestHandler: this.#handler ?? {
        connectionTimeout: connectTimeoutMs,
        httpAgent: agent,
        httpsAgent: this.#ca === null ? agent : { ...agent, ca: this.#ca },
        logger: SILENT,
      },
    };
    if (endpoint !== null) config.endpoint = endpoint;
    if (credentialsFile !== null) config.credentials = () => readCredentials(this.#env.files, credentialsFile, profile);
    const client = new this.#sdk.S3Client(config);
    this.#handler = client.config.requestHandler;
    return client;
  }

  #wrong(rule: FailureRule, doing: string, key: string, word: string, what: string): RemoteError {
    return remoteError(rule, { doing, place: this.place, key }, word, what);
  }

  #wrongRange(key: string, what: string): RemoteError {
    return this.#wrong(RULES.wrongAnswer, 'reading', key, 'wrong answer', what);
  }

  #endsBefore(key: string, endBytes: number, lastByte: number): RemoteError {
    return this.#wrong(RULES.damaged, 'reading', key, 'too short', `it ends at or before byte ${endBytes}, expected at least ${lastByte + 1}`);
  }
}
