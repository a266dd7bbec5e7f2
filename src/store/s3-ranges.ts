/**
 * Ranges of objects past the SDK's middleware, which takes more than a millisecond of processor time a request: signed by the SDK's own signer, with its credentials, and read by connections that fill
 * the caller's memory. Whatever is not the plain answer, or the failure, of a store is left to the SDK.
 */
import { assert } from '../base/assert.ts';
import type { S3Settings } from '../base/settings-types.ts';
import type { AnswerHead, TakeBody } from './range-connection.ts';
import { type RangeCounters, RangeConnections } from './range-connections.ts';

/** With fewer connections than this there are none for ranges alone. */
const SOCKETS_MIN = 4;
/** What a store says of a failure is shorter. */
const COMPLAINT_BYTES_MAX = 16 * 1024;
/** Stores take signatures of 15 minutes before and after. A clock that is further off than this is the SDK's to reckon with. */
const SKEW_MS_MAX = 60_000;
/** SHA-256 of nothing: the body of a GET. */
const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** How many of the connections to a store are for its ranges; the others are the SDK's. */
export function rangeSockets({ socketsMax, endpoint, pathStyle, checksums }: S3Settings): number {
  const isPlain = endpoint !== null && pathStyle !== false && checksums === 'off';
  return isPlain && socketsMax >= SOCKETS_MIN ? Math.floor(socketsMax / 2) : 0;
}

/** What of the SDK's client is used here. */
export interface SigningClient {
  readonly config: {
    /** How far the store's clock is from ours, milliseconds. */
    readonly systemClockOffset: number;
    signer(): Promise<{ sign(request: UnsignedRequest): Promise<Pick<UnsignedRequest, 'headers'>> }>;
  };
}

interface UnsignedRequest {
  method: string;
  protocol: string;
  hostname: string;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
}

/** An answer that the SDK may make sense of. */
class UnfitAnswer extends Error {}

interface Complaint {
  readonly status: number;
  readonly text: Buffer;
}

export class S3Ranges {
  readonly #url: URL;
  readonly #connections: RangeConnections;

  /** Counts each request as it is sent, and the bytes of bodies as they come. */
  constructor(endpoint: string, settings: S3Settings, ca: string | null, counters: RangeCounters) {
    this.#url = new URL(endpoint);
    const { hostname, port, protocol } = this.#url;
    const isTls = protocol === 'https:';
    const at = { host: hostname.replace(/^\[(.*)\]$/u, '$1'), port: port === '' ? (isTls ? 443 : 80) : Number(port), tls: isTls ? { ca } : null, connectTimeoutMs: settings.connectTimeoutMs };
    this.#connections = new RangeConnections(at, rangeSockets(settings), counters);
  }

  /**
   * Asks for a range (`bytes=0-9`) of what is at a path; `take` is given the head of an answer with status 206. False: it is to be asked for by the SDK. Rejects as the SDK does: with the store's word and
   * status, with those of the system, or with what `take` threw.
   */
  async get(client: SigningClient, path: string, range: string, take: TakeBody, signal: AbortSignal): Promise<boolean> {
    if (Math.abs(client.config.systemClockOffset) > SKEW_MS_MAX) return false;
    const request = await this.#sign(client, path, range);
    const complaints: Complaint[] = [];
    const takeAny = (head: AnswerHead): Uint8Array => {
      if (head.bodyBytes >= 0 && head.status === 206) return take(head);
      if (head.bodyBytes < 0 || head.bodyBytes > COMPLAINT_BYTES_MAX) throw isBusy(head.status) ? errorOf({ status: head.status, text: Buffer.alloc(0) }) : new UnfitAnswer();
      const text = Buffer.alloc(head.bodyBytes);
      complaints.push({ status: head.status, text });
      return text;
    };
    try {
      await this.#connections.ask(request, takeAny, signal);
    } catch (error) {
      if (error instanceof UnfitAnswer) return false;
      throw error;
    }
    const [complaint] = complaints;
    if (complaint === undefined) return true;
    if (isBusy(complaint.status)) throw errorOf(complaint);
    return false;
  }

  async #sign(client: SigningClient, path: string, range: string): Promise<string> {
    const { protocol, hostname, host } = this.#url;
    const signer = await client.config.signer();
    const { headers } = await signer.sign({ method: 'GET', protocol, hostname, path, query: {}, headers: { host, range, 'x-amz-content-sha256': EMPTY_SHA256, 'user-agent': 'basalt' } });
    const lines = [`GET ${path} HTTP/1.1`, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)];
    assert(lines.every((line) => !/[\r\n]/u.test(line)), 'a header has more than one line');
    return `${lines.join('\r\n')}\r\n\r\n`;
  }

  close(): void {
    this.#connections.close();
  }
}

/** Asked again at once, a store that is busy would be busier. */
function isBusy(status: number): boolean {
  return status >= 500 || status === 429;
}

/** As the SDK would throw it. */
function errorOf({ status, text }: Complaint): Error {
  const part = (name: string): string | undefined => new RegExp(`<${name}>([^<]{1,500})</${name}>`, 'u').exec(text.toString())?.[1];
  const Code = part('Code');
  return Object.assign(new Error(part('Message') ?? 'UnknownError'), { ...(Code === undefined ? {} : { Code }), $metadata: { httpStatusCode: status } });
}
