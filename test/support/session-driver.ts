/**
 * Runs a session without a socket. Input is delivered the way the server's `onread` path does it: the place of the next read is
 * asked for right after a read, and kept while reading is stopped.
 */
import type { Clock } from '../../src/env/env.ts';
import { ManualClock } from './fake-world.ts';
import type { ServerSettings } from '../../src/base/settings-types.ts';
import {
  NBD_CMD_READ,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_META_CONTEXT,
} from '../../src/protocol/constants.ts';
import { BufferPool, PIECE_BYTES } from '../../src/session/buffer-pool.ts';
import { type SessionClient, type SessionEvent, type SessionHost, type SessionResources, TRUSTED_CLIENT } from '../../src/session/host.ts';
import { PayloadBudget } from '../../src/session/payload-budget.ts';
import { ReplyBudget } from '../../src/session/reply-budget.ts';
import type { ReplyBatch } from '../../src/session/reply-queue.ts';
import { Session } from '../../src/session/session.ts';
import { ThrottleTable } from '../../src/session/throttle.ts';
import { TrafficTable } from '../../src/session/traffic.ts';
import type { DeviceDirectory } from '../../src/volume/block-device.ts';
import {
  clientFlagsBytes,
  GREETING,
  infoRequestBytes,
  metaContextBytes,
  optionBytes,
  type OptionReply,
  takeOptionReply,
} from './nbd-bytes.ts';
import { type AskedRequest, type Reply, ReplyReader, type ReplyStyle } from './reply-reader.ts';

export const TEST_SETTINGS: ServerSettings = {
  maxConnections: 64,
  maxConnectionsPerAddress: 0,
  maxHalfOpen: 64,
  handshakeTimeoutMs: 10_000,
  maxOptions: 40,
  maxOptionBytes: 16 * 1024,
  maxRequestsInFlight: 64,
  maxReplyBytes: 4 * 1024 * 1024,
  replyBytes: 16 * 1024 * 1024,
  maxRequestBytes: 32 * 1024 * 1024,
  payloadBytes: 64 * 1024 * 1024,
  payloadTimeoutMs: 30_000,
  idleTimeoutMs: 0,
  defaultExport: '',
  tls: 'off',
  tlsCertificates: '',
  tlsPskFile: '',
  tlsVerifyPeer: false,
  tlsHandshakeTimeoutMs: 10_000,
  maxTlsHandshakes: 16,
  socketMode: '0600',
  socketOwner: '',
};

/** A pool whose buffers hold nothing of use before they are written and after they are given back. */
class PoisonedPool extends BufferPool {
  override take(bytes: number): Uint8Array {
    return super.take(bytes).fill(0xdd);
  }

  override give(buffer: Uint8Array): void {
    super.give(buffer.fill(0xdd));
  }
}

export function testResources(directory: DeviceDirectory, settings: Partial<ServerSettings> = {}, nowMs: () => number = () => 0, clock: Clock = new ManualClock()): SessionResources {
  const all = { ...TEST_SETTINGS, ...settings };
  return {
    settings: all,
    directory,
    pool: new PoisonedPool(all.payloadBytes),
    budget: new PayloadBudget(all.payloadBytes),
    replyBudget: new ReplyBudget(all.replyBytes),
    scratch: new Uint8Array(PIECE_BYTES),
    traffic: new TrafficTable(nowMs),
    throttles: new ThrottleTable(clock),
  };
}

/** Ends when everything that was due (microtasks, deferred turns) has run. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
}

export type TestRequest = AskedRequest;

export class SessionDriver implements SessionHost {
  readonly session: Session;
  /** What the log is told; that a volume is being opened only concerns the clock of the handshake. */
  readonly events: SessionEvent[] = [];
  readonly openings: SessionEvent[] = [];
  /** How often `send` was called. */
  sendCount = 0;
  /** Batches are taken by the kernel as soon as they are sent; off: when the test calls `takeUnsent`. */
  takesReplies = true;
  finished: 'no' | 'in order' | 'broken' = 'no';
  isReleased = false;
  /** Set when TLS shall begin: the client's flags. */
  tlsFlags: number | null = null;
  /** Its end of the stream is there, behind what the session has not read. */
  isLeft = false;
  readonly emptiesSocket = true;
  /** Largest read; a test's way to split the input. */
  readBytesMax = Number.POSITIVE_INFINITY;
  readonly #unsent: ReplyBatch[] = [];
  readonly reader = new ReplyReader();
  #output: Buffer = Buffer.alloc(0);
  #input: Buffer = Buffer.alloc(0);
  #target: Uint8Array;
  #stopped = false;
  #cookie = 0;
  #feeding = false;

  /** A session of a client that TLS has begun with greets nobody. */
  constructor(resources: SessionResources, client: SessionClient = TRUSTED_CLIENT) {
    this.session = new Session(resources, this, client);
    this.#target = this.session.readTarget();
    if (client.securedFlags === null) this.session.start();
  }

  // What the session calls

  send(batch: ReplyBatch): void {
    this.sendCount += 1;
    if (!this.takesReplies) {
      this.#unsent.push(batch);
      return;
    }
    this.#copyOut(batch);
    process.nextTick(() => this.session.sent(batch));
  }

  defer(): void {
    process.nextTick(() => this.session.deferred());
  }

  resumeReading(): void {
    this.#stopped = false;
    this.#deliver();
  }

  hasLeft(): boolean {
    return this.isLeft;
  }

  finish(broken: boolean): void {
    if (this.finished !== 'no') throw new Error('finished twice');
    this.finished = broken ? 'broken' : 'in order';
  }

  startTls(clientFlags: number): void {
    if (this.finished !== 'no' || this.tlsFlags !== null) throw new Error('TLS after the end');
    this.tlsFlags = clientFlags;
  }

  released(): void {
    if (this.isReleased) throw new Error('released twice');
    this.isReleased = true;
  }

  report(event: SessionEvent): void {
    if (event.kind === 'opening' || event.kind === 'opened') this.openings.push(event);
    else this.events.push(event);
  }

  // What a test does

  /** The kernel takes what was sent so far: only now its bytes are looked at. */
  takeUnsent(): void {
    for (let batch = this.#unsent.shift(); batch !== undefined; batch = this.#unsent.shift()) {
      this.#copyOut(batch);
      this.session.sent(batch);
    }
  }

  /** Bytes that the session has not wanted yet. */
  get unreadBytes(): number {
    return this.#input.length;
  }

  get outstandingCount(): number {
    return this.reader.outstanding.size;
  }

  feed(bytes: Uint8Array): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    this.#deliver();
  }

  /** The socket is gone. */
  disconnect(): void {
    this.session.disconnected();
    this.takeUnsent();
  }

  /** The number in the next request's cookie. */
  get nextCookie(): number {
    return this.#cookie + 1;
  }

  /** What was sent and not yet looked at. */
  peekOutput(): Buffer {
    return this.#output;
  }

  takeOutput(): Buffer {
    const output = this.#output;
    this.#output = Buffer.alloc(0);
    return output;
  }

  /** Takes the greeting and answers it with client flags. */
  greet(flags = 3): void {
    const greeting = this.takeOutput();
    if (!greeting.equals(GREETING)) throw new Error(`greeting ${greeting.toString('hex')}`);
    this.feed(clientFlagsBytes(flags));
  }

  /** Sends an option and takes all its replies. */
  async option(option: number, data?: Uint8Array): Promise<OptionReply[]> {
    this.feed(optionBytes(option, data));
    await settled();
    return this.takeOptionReplies();
  }

  takeOptionReplies(): OptionReply[] {
    const replies: OptionReply[] = [];
    let rest = this.takeOutput();
    while (rest.length > 0) {
      const taken = takeOptionReply(rest);
      if (taken === null) throw new Error('half an option reply');
      replies.push(taken.reply);
      rest = taken.rest;
    }
    return replies;
  }

  /** Greets and opens an export. */
  async go(name = ''): Promise<void> {
    this.greet();
    const replies = await this.option(NBD_OPT_GO, infoRequestBytes(name));
    if (replies.at(-1)?.type !== 1) throw new Error(`GO was not acknowledged: ${JSON.stringify(replies)}`);
    this.sendCount = 0;
  }

  /** Greets, agrees on a style of replies and on contexts, and opens an export. */
  async goWith(style: ReplyStyle, contexts: readonly string[] = [], name = 'disk', { greets = true } = {}): Promise<void> {
    if (greets) this.greet();
    const option = style === 'extended' ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY;
    const asked = style === 'simple' ? [] : await this.option(option);
    const selected = style === 'simple' ? [] : await this.option(NBD_OPT_SET_META_CONTEXT, metaContextBytes(name, contexts));
    const opened = await this.option(NBD_OPT_GO, infoRequestBytes(name));
    for (const replies of [asked, selected, opened]) if (replies.length > 0 && replies.at(-1)?.type !== NBD_REP_ACK) throw new Error(`not acknowledged: ${JSON.stringify(replies)}`);
    this.reader.style = style;
    this.reader.contexts = selected
      .filter(({ type }) => type === NBD_REP_META_CONTEXT)
      .map(({ data }) => ({ id: data.readUInt32BE(0), name: data.subarray(4).toString() }));
    this.sendCount = 0;
  }

  /** The bytes of a request with a cookie of its own; it counts as under way from now on. */
  encode(request: TestRequest): Buffer {
    this.#cookie += 1;
    const cookie = Buffer.alloc(8, 0xc0);
    cookie.writeUInt32BE(this.#cookie, 2);
    return this.reader.request(cookie, request);
  }

  /** Takes all replies that are there; each must answer a request, and none may be cut. */
  takeReplies(): Reply[] {
    const replies: Reply[] = [];
    let rest = this.takeOutput();
    while (rest.length > 0) {
      const taken = this.reader.takeFirst(rest);
      if (taken === null) throw new Error('half a reply');
      if (taken.reply !== null) replies.push(taken.reply);
      rest = taken.rest;
    }
    return replies;
  }

  /** Sends requests in one read and waits for everything that they set off. */
  async exchange(...requests: readonly TestRequest[]): Promise<Reply[]> {
    this.feed(Buffer.concat(requests.map((request) => this.encode(request))));
    await settled();
    return this.takeReplies();
  }

  /** The error of one request that must be answered at once. */
  async errorOf(request: TestRequest): Promise<number> {
    const replies = await this.exchange(request);
    if (replies.length !== 1) throw new Error(`${replies.length} replies to one request`);
    return replies[0].error;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const replies = await this.exchange({ command: NBD_CMD_READ, offset, length });
    if (replies.length !== 1 || replies[0].error !== 0) throw new Error(`read failed: ${JSON.stringify(replies)}`);
    return replies[0].data;
  }

  #copyOut(batch: ReplyBatch): void {
    const bytes = Buffer.concat(batch.parts);
    if (bytes.length !== batch.byteCount) throw new Error(`a batch of ${batch.byteCount} bytes holds ${bytes.length}`);
    this.#output = Buffer.concat([this.#output, bytes]);
  }

  #deliver(): void {
    if (this.#feeding) return;
    this.#feeding = true;
    while (this.#input.length > 0 && !this.#stopped) {
      const byteCount = Math.min(this.#target.length, this.#input.length, this.readBytesMax);
      this.#target.set(this.#input.subarray(0, byteCount));
      this.#input = this.#input.subarray(byteCount);
      this.session.received(byteCount);
      this.#stopped = !this.session.wantsInput;
      this.#target = this.session.readTarget();
    }
    this.#feeding = false;
  }
}
