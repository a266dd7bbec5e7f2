/**
 * A strict NBD client: every byte that comes back is looked at, and anything that the document does not allow ends the connection
 * with an error that says what it was. It can also send whatever bytes a test wants.
 */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import {
  MAX_STRING_BYTES,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_UNSUP,
  NBD_REP_FLAG_ERROR,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
} from '../../src/protocol/constants.ts';
import {
  clientFlagsBytes,
  decodeExportInfos,
  type ExportInfo,
  GREETING,
  infoRequestBytes,
  extendedRequestBytes,
  optionBytes,
  type OptionReply,
  requestBytes,
  metaContextBytes,
  takeOptionReply,
} from './nbd-bytes.ts';
import { type AskedRequest, type Reply, ReplyReader, type ReplyStyle } from './reply-reader.ts';

export type NbdAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** The server answered a request with an error. */
export class NbdRequestError extends Error {
  readonly errno: number;

  constructor(what: string, errno: number) {
    super(`${what} failed with NBD error ${errno}`);
    this.name = 'NbdRequestError';
    this.errno = errno;
  }
}

/** The server answered an option with an error; `message` is its text. */
export class NbdOptionError extends Error {
  readonly type: number;

  constructor(option: number, type: number, text: string) {
    super(`option ${option} failed with 2^31+${type - NBD_REP_FLAG_ERROR}: ${text}`);
    this.name = 'NbdOptionError';
    this.type = type;
  }
}

/** The connection ended before the answer came: whether the request was carried out is not known. */
export class NbdDisconnected extends Error {
  constructor(what: string) {
    super(`the connection ended: ${what}`);
    this.name = 'NbdDisconnected';
  }
}

export interface RawRequest extends AskedRequest {
  readonly cookie?: Uint8Array;
  /** Sent instead of the bytes of the request; what the fields say is still what the reply is held against. */
  readonly wire?: Uint8Array;
}

export type RawReply = Reply;

interface Pending {
  readonly what: string;
  resolve(reply: RawReply): void;
  reject(error: Error): void;
}

/** What holds for every option reply: a type that the document has, no data where there is none, and texts that are texts. */
function checkOptionReply({ option, type, data }: OptionReply): void {
  const isError = type >= NBD_REP_FLAG_ERROR;
  const isKnown = isError ? type >= NBD_REP_ERR_UNSUP && type <= NBD_REP_ERR_EXT_HEADER_REQD : type >= NBD_REP_ACK && type <= NBD_REP_META_CONTEXT;
  if (!isKnown) throw new Error(`reply of the unknown type ${type} to option ${option}`);
  if (type === NBD_REP_ACK && data.length > 0) throw new Error(`an ACK with ${data.length} bytes of data`);
  if (!isError) return;
  if (data.length > MAX_STRING_BYTES || data.includes(0)) throw new Error(`the text of an error of option ${option} is no string of ${MAX_STRING_BYTES} bytes at most`);
  new TextDecoder('utf-8', { fatal: true }).decode(data);
}

/** Bytes that have arrived, and those who wait for them. */
class ByteQueue {
  #chunks: Buffer[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** All bytes in one piece; they stay. */
  peek(): Buffer {
    if (this.#chunks.length !== 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0];
  }

  /** The first bytes, as far as they are there; they stay. */
  head(byteCount: number): Buffer {
    if ((this.#chunks.at(0)?.length ?? 0) < byteCount) this.peek();
    return this.#chunks.at(0) ?? Buffer.alloc(0);
  }

  drop(byteCount: number): void {
    const all = this.peek();
    this.#chunks = [all.subarray(byteCount)];
    this.#length -= byteCount;
  }
}

export class NbdClient {
  socket: net.Socket;
  /** Set by `go` and `exportName`. */
  export: ExportInfo | null = null;
  #input = new ByteQueue();
  #pending = new Map<string, Pending>();
  readonly reader = new ReplyReader();
  #transmitting = false;
  #ended = false;
  #failure: Error | null = null;
  /** What the server said that the document does not allow. */
  #violation: Error | null = null;
  /** Sees all bytes as they are sent (`>`) and as they arrive (`<`). */
  tape: ((direction: '>' | '<', bytes: Uint8Array) => void) | null = null;
  #wake: (() => void) | null = null;
  /** Resolves when the socket is closed, with what broke it or null. */
  closed: Promise<Error | null>;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    this.closed = this.#listenTo(socket);
  }

  #listenTo(socket: net.Socket): Promise<Error | null> {
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('end', () => this.#onEnd());
    socket.on('error', (error) => (this.#failure ??= error));
    return new Promise((resolve) => {
      socket.on('close', () => {
        this.#onEnd();
        resolve(this.#failure);
      });
    });
  }

  /** Connects; nothing is said or expected yet. */
  static connect(address: NbdAddress): Promise<NbdClient> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ ...address, noDelay: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new NbdClient(socket));
      });
    });
  }

  /** A client on a socket that is connected. */
  static over(socket: net.Socket): NbdClient {
    return new NbdClient(socket);
  }

  /** Connects and opens an export. */
  static async open(address: NbdAddress, exportName = '', infos: readonly number[] = []): Promise<NbdClient> {
    const client = await NbdClient.connect(address);
    await client.greet();
    await client.go(exportName, infos);
    return client;
  }

  // Bytes

  send(bytes: Uint8Array): void {
    this.tape?.('>', bytes);
    this.socket.write(bytes);
  }

  /** The next `byteCount` bytes of the handshake. */
  async take(byteCount: number): Promise<Buffer> {
    while (this.#input.length < byteCount) await this.#more(`${byteCount} bytes were expected, ${this.#input.length} came`);
    const bytes = Buffer.from(this.#input.peek().subarray(0, byteCount));
    this.#input.drop(byteCount);
    return bytes;
  }

  /** Ends this side of the connection. */
  endInput(): void {
    this.socket.end();
  }

  /** Resolves when the server has closed or reset the connection, and closes it here as well. */
  async untilEnd(): Promise<void> {
    while (!this.#ended) await this.#more('the server has not closed').catch(() => undefined);
    this.socket.destroy();
  }

  /** Resolves when the server has closed; fails if it says anything before. */
  async expectEnd(): Promise<void> {
    await this.untilEnd();
    if (this.#violation !== null) throw this.#violation;
    if (this.#input.length > 0) throw new Error(`${this.#input.length} bytes nobody asked for`);
  }

  // Handshake

  /** Checks the greeting and sends client flags. */
  async greet(flags = 3): Promise<void> {
    const greeting = await this.take(GREETING.length);
    if (!greeting.equals(GREETING)) throw new Error(`greeting ${greeting.toString('hex')}`);
    this.send(clientFlagsBytes(flags));
  }

  async takeOptionReply(option: number): Promise<OptionReply> {
    for (;;) {
      const taken = this.#input.length === 0 ? null : takeOptionReply(this.#input.peek());
      if (taken === null) {
        await this.#more(`option ${option} was not answered`);
        continue;
      }
      this.#input.drop(this.#input.length - taken.rest.length);
      if (taken.reply.option !== option) throw new Error(`option ${taken.reply.option} was answered instead of ${option}`);
      checkOptionReply(taken.reply);
      return taken.reply;
    }
  }

  /** Sends an option and returns what comes before the ACK. */
  async option(option: number, data: Uint8Array = Buffer.alloc(0)): Promise<OptionReply[]> {
    this.send(optionBytes(option, data));
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.takeOptionReply(option);
      if (reply.type >= NBD_REP_FLAG_ERROR) throw new NbdOptionError(option, reply.type, reply.data.toString());
      if (reply.type === NBD_REP_ACK) return replies;
      replies.push(reply);
    }
  }

  /** The type of the error with which an option is refused. */
  async refusedOption(option: number, data?: Uint8Array): Promise<{ type: number; text: string }> {
    this.send(optionBytes(option, data));
    const reply = await this.takeOptionReply(option);
    if (reply.type < NBD_REP_ERR_UNSUP) throw new Error(`option ${option} was not refused: reply ${reply.type}`);
    return { type: reply.type, text: reply.data.toString() };
  }

  async list(): Promise<{ name: string; description: string }[]> {
    return (await this.option(NBD_OPT_LIST)).map(({ type, data }) => {
      if (type !== NBD_REP_SERVER) throw new Error(`reply ${type} to LIST`);
      const nameEnd = 4 + data.readUInt32BE(0);
      if (nameEnd > data.length) throw new Error('a name that is longer than its reply');
      return { name: data.subarray(4, nameEnd).toString(), description: data.subarray(nameEnd).toString() };
    });
  }

  async info(name: string, infos: readonly number[] = []): Promise<ExportInfo> {
    return this.#describe(NBD_OPT_INFO, name, infos);
  }

  /** Opens the export; requests may follow. */
  async go(name: string, infos: readonly number[] = []): Promise<ExportInfo> {
    this.export = await this.#describe(NBD_OPT_GO, name, infos);
    this.#transmitting = true;
    return this.export;
  }

  /** Opens the export in the old way. `padded`: the client did not say C_NO_ZEROES. */
  async exportName(name: string, padded = false): Promise<ExportInfo> {
    this.send(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    const bytes = await this.take(padded ? 134 : 10);
    if (bytes.subarray(10).some((byte) => byte !== 0)) throw new Error('the padding is not zero');
    const infos = { name: null, description: null, blockSizes: null };
    this.export = { sizeBytes: bytes.readBigUInt64BE(0), transmissionFlags: bytes.readUInt16BE(8), ...infos };
    this.#transmitting = true;
    return this.export;
  }

  /** STARTTLS, and TLS. Rejects with what ends the handshake. */
  async startTls(options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
    const replies = await this.option(NBD_OPT_STARTTLS);
    if (replies.length > 0 || this.#input.length > 0) throw new Error('STARTTLS was answered with more than an ACK');
    return this.beginTls(options);
  }

  /** The TLS that follows the answer to STARTTLS. */
  async beginTls(options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
    const plain = this.socket;
    for (const event of ['data', 'end', 'error', 'close']) plain.removeAllListeners(event);
    plain.on('error', () => undefined);
    const secured = tls.connect({ ...options, socket: plain });
    this.socket = secured;
    await new Promise<void>((resolve, reject) => {
      secured.once('secureConnect', resolve);
      secured.once('error', reject);
      secured.once('close', () => reject(new NbdDisconnected('no TLS')));
    });
    this.closed = this.#listenTo(secured);
    return secured;
  }

  async abort(): Promise<void> {
    await this.option(NBD_OPT_ABORT);
    await this.expectEnd();
  }

  /** Agrees on structured replies or extended headers. */
  async agree(style: Exclude<ReplyStyle, 'simple'>): Promise<void> {
    const replies = await this.option(style === 'extended' ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY);
    if (replies.length > 0) throw new Error('more than an ACK');
    this.reader.style = style;
  }

  /** The contexts that an option about them names: SET_META_CONTEXT selects these. */
  async contexts(option: number, name: string, queries: readonly string[]): Promise<{ id: number; name: string }[]> {
    const found = (await this.option(option, metaContextBytes(name, queries))).map(({ type, data }) => {
      if (type !== NBD_REP_META_CONTEXT) throw new Error(`reply ${type} to option ${option}`);
      return { id: data.readUInt32BE(0), name: data.subarray(4).toString() };
    });
    for (const key of ['id', 'name'] as const) {
      const values = new Set(found.map((context) => context[key]));
      if (option === NBD_OPT_SET_META_CONTEXT && values.size !== found.length) throw new Error(`an ${key} that comes twice`);
    }
    if (option === NBD_OPT_SET_META_CONTEXT) this.reader.contexts = found;
    return found;
  }

  // Transmission

  /** Sends any request at all; resolves with whatever answers it. */
  request(fields: RawRequest): Promise<RawReply> {
    const what = `command ${fields.command} ${fields.offset ?? 0}+${fields.length ?? fields.payload?.length ?? 0}`;
    const { cookie = randomBytes(8), wire, ...asked } = fields;
    if (this.#ended) return Promise.reject(this.#failure ?? new NbdDisconnected(what));
    const bytes = this.reader.request(cookie, asked);
    return new Promise((resolve, reject) => {
      this.#pending.set(Buffer.from(cookie).toString('hex'), { what, resolve, reject });
      this.send(wire ?? bytes);
    });
  }

  async read(offset: number, length: number): Promise<Buffer> {
    return this.#must('read', { command: NBD_CMD_READ, offset, length });
  }

  async write(offset: number, payload: Uint8Array, fua = false): Promise<void> {
    await this.#must('write', { command: NBD_CMD_WRITE, offset, payload, flags: fua ? NBD_CMD_FLAG_FUA : 0 });
  }

  async zero(
    offset: number,
    length: number,
    options: { readonly fua?: boolean; readonly provisioned?: boolean; readonly fast?: boolean } = {},
  ): Promise<void> {
    const flags =
      (options.fua === true ? NBD_CMD_FLAG_FUA : 0) |
      (options.provisioned === true ? NBD_CMD_FLAG_NO_HOLE : 0) |
      (options.fast === true ? NBD_CMD_FLAG_FAST_ZERO : 0);
    await this.#must('zero', { command: NBD_CMD_WRITE_ZEROES, offset, length, flags });
  }

  async trim(offset: number, length: number, fua = false): Promise<void> {
    await this.#must('trim', { command: NBD_CMD_TRIM, offset, length, flags: fua ? NBD_CMD_FLAG_FUA : 0 });
  }

  async cache(offset: number, length: number): Promise<void> {
    await this.#must('cache', { command: NBD_CMD_CACHE, offset, length });
  }

  async flush(): Promise<void> {
    await this.#must('flush', { command: NBD_CMD_FLUSH });
  }

  /** Says goodbye and waits for the server to close, once it has answered everything. */
  async close(): Promise<void> {
    const disconnect = { command: NBD_CMD_DISC, cookie: Buffer.alloc(8) };
    if (!this.#ended && this.#transmitting) this.send(this.reader.style === 'extended' ? extendedRequestBytes(disconnect) : requestBytes(disconnect));
    else this.socket.end();
    await this.expectEnd();
  }

  /** Cuts the connection; over TCP with a reset. */
  async cut(): Promise<void> {
    if (this.socket.remoteAddress === undefined || this.socket instanceof tls.TLSSocket) this.socket.destroy();
    else this.socket.resetAndDestroy();
    await this.closed;
  }

  async #describe(option: number, name: string, infos: readonly number[]): Promise<ExportInfo> {
    const replies = await this.option(option, infoRequestBytes(name, infos));
    for (const { type } of replies) if (type !== NBD_REP_INFO) throw new Error(`reply ${type} to option ${option}`);
    return decodeExportInfos(replies);
  }

  async #must(what: string, fields: RawRequest): Promise<Buffer> {
    const { error, data } = await this.request(fields);
    if (error !== 0) throw new NbdRequestError(what, error);
    return data;
  }

  async #more(missing: string): Promise<void> {
    if (this.#ended) throw this.#failure ?? new NbdDisconnected(missing);
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  #onData(chunk: Buffer): void {
    this.tape?.('<', chunk);
    this.#input.push(chunk);
    try {
      if (this.#transmitting) this.#answerRequests();
    } catch (error) {
      this.#violation ??= error instanceof Error ? error : new Error(String(error));
      this.#failure ??= this.#violation;
      this.socket.destroy();
    }
    this.#wake?.();
    this.#wake = null;
  }

  #answerRequests(): void {
    for (;;) {
      const wanted = this.reader.messageBytes(this.#input.head(32));
      if (wanted === null || this.#input.length < wanted) return; // before the bytes are joined: a large reply comes in many pieces
      const message = Buffer.from(this.#input.head(wanted).subarray(0, wanted));
      this.#input.drop(wanted);
      const reply = this.reader.take(message);
      if (reply === null) continue;
      this.#pending.get(reply.cookie)?.resolve(reply);
      this.#pending.delete(reply.cookie);
    }
  }

  #onEnd(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const pending of this.#pending.values()) pending.reject(this.#failure ?? new NbdDisconnected(pending.what));
    this.#pending.clear();
    this.#wake?.();
    this.#wake = null;
  }
}
