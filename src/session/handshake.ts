/**
 * The handshake of one connection, fixed newstyle (NBD document, "Fixed newstyle negotiation"): client flags, then options until one
 * of them opens an export.
 *
 * Every option is read whole before it is answered, so that the stream stays in sync whatever it was. Listing and opening volumes
 * takes time: meanwhile `parse` returns BLOCKED and what the client sends is kept.
 */
import { type ErrorContext, VolumeError } from '../base/errors.ts';
import {
  DEFAULT_PREFERRED_BLOCK_BYTES,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_PLATFORM,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from '../protocol/constants.ts';
import { encodeMetaContext } from '../protocol/meta-context.ts';
import {
  CLIENT_FLAGS_BYTES,
  clientFlags,
  decodeInfoRequest,
  decodeText,
  encodeAck,
  encodeExportNameReply,
  encodeInfoBlockSize,
  encodeInfoDescription,
  encodeInfoExport,
  encodeInfoName,
  encodeOptionError,
  encodeServer,
  isOption,
  OPTION_HEADER_BYTES,
  optionCode,
  optionDataBytes,
} from '../protocol/negotiation.ts';
import type { BlockDevice, DeviceSummary } from '../volume/block-device.ts';
import { transmissionFlagsOf } from './commands.ts';
import { BLOCKED, BROKEN, LEAVING, SECURING, type SessionClient, type SessionEvent, type SessionResources } from './host.ts';
import type { InputWindow } from './input-window.ts';
import type { ReplyQueue } from './reply-queue.ts';
import { type MetaContextQuestion, Negotiation, type Terms } from './terms.ts';

export interface HandshakeOptions {
  readonly resources: SessionResources;
  readonly client: SessionClient;
  readonly replies: ReplyQueue;
  /** The device is the caller's from now on; transmission begins behind what is in the reply queue. */
  readonly negotiated: (device: BlockDevice, readOnly: boolean, terms: Terms) => void;
  /** EXPORT_NAME cannot say no: the connection is to be closed. */
  readonly refused: () => void;
  /** Asks for a turn. */
  readonly wake: () => void;
  readonly report: (event: SessionEvent) => void;
}

/** The volume that an option has opened. `description` is there if it was asked for. */
interface Opened {
  readonly name: string;
  readonly device: BlockDevice;
  /** By itself, or for this client. */
  readonly readOnly: boolean;
  readonly description: string;
  readonly terms: Terms;
}

export class Handshake {
  readonly #resources: SessionResources;
  readonly #client: SessionClient;
  readonly #replies: ReplyQueue;
  readonly #options: HandshakeOptions;
  readonly #negotiation = new Negotiation();
  #flagsRead = false;
  #fixedNewstyle = false;
  #noZeroes = false;
  #optionCount = 0;
  #busy = false;
  #shuttingDown = false;
  #gone = false;

  constructor(options: HandshakeOptions) {
    this.#options = options;
    this.#resources = options.resources;
    this.#client = options.client;
    if (options.client.securedFlags !== null) this.#takeFlags(options.client.securedFlags);
    this.#replies = options.replies;
  }

  /** What the client has said in its flags; they are known once it has sent an option. */
  get clientFlags(): number {
    return (this.#fixedNewstyle ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (this.#noZeroes ? NBD_FLAG_C_NO_ZEROES : 0);
  }

  /** Whether a volume is being listed or opened for this connection. */
  get busy(): boolean {
    return this.#busy;
  }

  /** From now on every option but ABORT is answered ERR_SHUTDOWN. */
  shutdown(): void {
    this.#shuttingDown = true;
  }

  /** The socket is gone; a volume that is being opened is given back when it is there. */
  disconnected(): void {
    this.#gone = true;
  }

  /** Consumes options; returns how many bytes the next one takes, or BLOCKED, LEAVING, SECURING or BROKEN. */
  parse(window: InputWindow): number {
    for (;;) {
      const have = window.end - window.start;
      if (this.#busy || this.#replies.queuedBytes >= this.#resources.settings.maxReplyBytes) return BLOCKED;
      if (!this.#flagsRead) {
        if (have < CLIENT_FLAGS_BYTES) return CLIENT_FLAGS_BYTES;
        if (!this.#readFlags(window)) return BROKEN;
        continue;
      }
      if (have < OPTION_HEADER_BYTES) return OPTION_HEADER_BYTES;
      const refusal = this.#refuseHeader(window.bytes, window.start);
      if (refusal !== null) return this.#broken(refusal);
      const totalBytes = OPTION_HEADER_BYTES + optionDataBytes(window.bytes, window.start);
      if (have < totalBytes) return totalBytes;

      const { bytes, start } = window;
      window.start += totalBytes;
      this.#optionCount += 1;
      const outcome = this.#answer(optionCode(bytes, start), bytes.subarray(start + OPTION_HEADER_BYTES, start + totalBytes));
      if (outcome === SECURING) return this.#startTls(window);
      if (outcome !== 0) return outcome;
    }
  }

  /** What a client sends behind STARTTLS before it has the answer was said in the open, perhaps by somebody else: it is never looked at. */
  #startTls(window: InputWindow): number {
    if (window.end > window.start) return this.#broken('data behind NBD_OPT_STARTTLS, before TLS has begun');
    this.#replies.message(encodeAck(NBD_OPT_STARTTLS));
    return SECURING;
  }

  #broken(message: string): number {
    this.#options.report({ kind: 'protocol-error', message });
    return BROKEN;
  }

  #readFlags(window: InputWindow): boolean {
    const flags = clientFlags(window.bytes, window.start);
    const unknown = (flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) >>> 0;
    if (unknown !== 0) {
      this.#broken(`unknown client flags 0x${unknown.toString(16)}`);
      return false;
    }
    window.start += CLIENT_FLAGS_BYTES;
    this.#takeFlags(flags);
    return true;
  }

  #takeFlags(flags: number): void {
    this.#flagsRead = true;
    this.#fixedNewstyle = (flags & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
    this.#noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) !== 0;
  }

  /** Whether the client has yet to ask for TLS where it can, or must. */
  #isPlainOn(mode: SessionClient['tls']): boolean {
    return this.#client.tls === mode && this.#client.securedFlags === null;
  }

  /** Why the connection must end at this option, judged by its header alone; null if it need not. */
  #refuseHeader(bytes: Uint8Array, at: number): string | null {
    const { maxOptions, maxOptionBytes } = this.#resources.settings;
    if (!isOption(bytes, at)) return 'an option does not start with IHAVEOPT';
    if (this.#optionCount >= maxOptions) return `more than ${maxOptions} options`;
    const dataBytes = optionDataBytes(bytes, at);
    if (dataBytes > maxOptionBytes) return `option data of ${dataBytes} bytes is longer than ${maxOptionBytes}`;
    // A client that did not ask for fixed newstyle cannot read an error reply, only the answer to EXPORT_NAME.
    if (!this.#fixedNewstyle && optionCode(bytes, at) !== NBD_OPT_EXPORT_NAME) return 'an option of fixed newstyle without its client flag';
    return null;
  }

  /** `data` is borrowed. Returns 0 to go on, or what `parse` shall return. */
  #answer(option: number, data: Uint8Array): number {
    if (option === NBD_OPT_ABORT) {
      this.#replies.message(encodeAck(option));
      return LEAVING;
    }
    if (option === NBD_OPT_EXPORT_NAME) return this.#answerExportName(data);
    if (this.#shuttingDown) return this.#error(option, NBD_REP_ERR_SHUTDOWN, 'the server is shutting down');
    if (option === NBD_OPT_STARTTLS) return this.#answerStartTls(data);
    if (this.#isPlainOn('forced')) return this.#error(option, NBD_REP_ERR_TLS_REQD, 'this server answers nothing before TLS (NBD_OPT_STARTTLS)');
    switch (option) {
      case NBD_OPT_LIST:
        if (data.length > 0) return this.#error(option, NBD_REP_ERR_INVALID, `NBD_OPT_LIST takes no data, there are ${data.length} bytes`);
        return this.#run(this.#list(option));
      case NBD_OPT_INFO:
      case NBD_OPT_GO: {
        const asked = decodeInfoRequest(data);
        if ('invalid' in asked) return this.#error(option, NBD_REP_ERR_INVALID, asked.invalid);
        return this.#run(this.#open(option, asked.name, asked.infos));
      }
      case NBD_OPT_STRUCTURED_REPLY:
      case NBD_OPT_EXTENDED_HEADERS: {
        const refusal = this.#negotiation.agree(option, data.length);
        if (refusal !== null) return this.#error(option, refusal.type, refusal.text);
        this.#replies.message(encodeAck(option));
        return 0;
      }
      case NBD_OPT_LIST_META_CONTEXT:
      case NBD_OPT_SET_META_CONTEXT: {
        const asked = this.#negotiation.ask(option, data);
        if ('type' in asked) return this.#error(option, asked.type, asked.text);
        return this.#run(this.#tellContexts(option, asked));
      }
      default:
        return this.#error(option, NBD_REP_ERR_UNSUP, `option ${option} is not supported`);
    }
  }

  #error(option: number, type: number, text: string): number {
    this.#replies.message(encodeOptionError(option, type, text));
    return 0;
  }

  /** Returns SECURING if TLS may begin. */
  #answerStartTls(data: Uint8Array): number {
    const option = NBD_OPT_STARTTLS;
    if (data.length > 0) return this.#error(option, NBD_REP_ERR_INVALID, `NBD_OPT_STARTTLS takes no data, there are ${data.length} bytes`);
    if (this.#client.securedFlags !== null) return this.#error(option, NBD_REP_ERR_INVALID, 'TLS has begun already');
    if (this.#client.tls === 'off') return this.#error(option, NBD_REP_ERR_POLICY, 'this server is not set up for TLS');
    return SECURING;
  }

  #answerExportName(data: Uint8Array): number {
    if (this.#isPlainOn('forced')) return this.#broken('NBD_OPT_EXPORT_NAME before TLS, which this server demands');
    if (this.#shuttingDown) return this.#broken('NBD_OPT_EXPORT_NAME while the server is shutting down');
    if (this.#negotiation.style === 'extended') return this.#broken('NBD_OPT_EXPORT_NAME after extended headers were negotiated');
    const name = decodeText(data, 'export name');
    if ('invalid' in name) return this.#broken(name.invalid);
    return this.#run(this.#openByName(name.text));
  }

  /** Goes on in a later turn, when the answer is in the queue. */
  #run(answered: Promise<void>): number {
    this.#busy = true;
    void this.#goOnAfter(answered); // expected errors are part of the answer; one of ours ends the process, unhandled
    return BLOCKED;
  }

  async #goOnAfter(answered: Promise<void>): Promise<void> {
    await answered;
    this.#busy = false;
    this.#options.wake();
  }

  async #list(option: number): Promise<void> {
    try {
      const messages = (await this.#visibleVolumes()).map((volume) => encodeServer(option, volume.name, volume.description));
      if (!this.#gone) this.#replies.message(concatenate([...messages, encodeAck(option)]));
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      this.#refuse(option, NBD_REP_ERR_PLATFORM, '', error);
    }
  }

  async #tellContexts(option: number, asked: MetaContextQuestion): Promise<void> {
    try {
      // Opened as for an INFO: whoever may not open an export is not told of its contexts either.
      const { device } = await this.#acquire(asked.exportName, false);
      this.#resources.directory.release(device);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      this.#refuse(option, NBD_REP_ERR_UNKNOWN, asked.exportName, error);
      return;
    }
    if (this.#gone) return;
    const contexts = this.#negotiation.answer(option, asked);
    // The ids of a listing mean nothing, and should be 0.
    const messages = contexts.map(({ id, name }) => encodeMetaContext(option, option === NBD_OPT_SET_META_CONTEXT ? id : 0, name));
    this.#replies.message(concatenate([...messages, encodeAck(option)]));
  }

  async #open(option: number, name: string, infos: readonly number[]): Promise<void> {
    let opened: Opened;
    try {
      opened = await this.#acquire(name, infos.includes(NBD_INFO_DESCRIPTION));
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      this.#refuse(option, error.code === 'not-found' && this.#isPlainOn('selective') ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_UNKNOWN, name, error);
      return;
    }
    const { device } = opened;
    if (this.#gone || this.#shuttingDown) {
      this.#resources.directory.release(device);
      if (!this.#gone) this.#error(option, NBD_REP_ERR_SHUTDOWN, 'the server is shutting down');
      return;
    }
    this.#replies.message(concatenate([...this.#infos(option, opened, infos), encodeAck(option)]));
    if (option === NBD_OPT_GO) this.#negotiated(opened);
    else this.#resources.directory.release(device);
  }

  async #openByName(name: string): Promise<void> {
    let opened: Opened;
    try {
      opened = await this.#acquire(name, false);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      this.#options.report({ kind: 'export-refused', exportName: name, error });
      this.#options.refused();
      return;
    }
    const { device } = opened;
    if (this.#gone || this.#shuttingDown) {
      this.#resources.directory.release(device);
      this.#options.refused();
      return;
    }
    this.#replies.message(encodeExportNameReply(device.sizeBytes, transmissionFlagsOf(opened, opened.terms), this.#noZeroes));
    this.#negotiated(opened);
  }

  #negotiated({ name, device, readOnly, terms }: Opened): void {
    this.#options.report({ kind: 'negotiated', exportName: name, sizeBytes: device.sizeBytes, readOnly });
    this.#options.negotiated(device, readOnly, terms);
  }

  #refuse(option: number, type: number, exportName: string, error: VolumeError): void {
    this.#options.report({ kind: 'export-refused', exportName, error });
    if (!this.#gone) this.#error(option, type, error.message);
  }

  #infos(option: number, opened: Opened, asked: readonly number[]): Uint8Array[] {
    const { name, device, description, terms } = opened;
    const messages = [encodeInfoExport(option, device.sizeBytes, transmissionFlagsOf(opened, terms))];
    if (asked.includes(NBD_INFO_NAME)) messages.push(encodeInfoName(option, name));
    if (asked.includes(NBD_INFO_DESCRIPTION) && description !== '') messages.push(encodeInfoDescription(option, description));
    if (asked.includes(NBD_INFO_BLOCK_SIZE)) {
      const preferredBytes = Math.max(DEFAULT_PREFERRED_BLOCK_BYTES, device.blockSizeBytes);
      messages.push(encodeInfoBlockSize(option, { minimumBytes: 1, preferredBytes, maximumBytes: this.#resources.settings.maxRequestBytes }));
    }
    return messages;
  }

  /** The volumes that this client may see now. */
  async #visibleVolumes(): Promise<DeviceSummary[]> {
    const volumes = await this.#resources.directory.list();
    return volumes.filter(({ name }) => this.#isVisible(name));
  }

  #isVisible(name: string): boolean {
    const terms = this.#client.termsOf(name);
    return terms === 'read-only' || terms === 'writable';
  }

  /**
   * Opens the volume that an export name means: "" is the configured default, or the only volume there is. One that is not for this
   * client is `not-found` in the very words of one that is not there.
   */
  async #acquire(exportName: string, describe: boolean): Promise<Opened> {
    const { settings } = this.#resources;
    let name = exportName === '' ? settings.defaultExport : exportName;
    let description = '';
    if (name === '' || describe) {
      const volumes = await this.#visibleVolumes();
      if (name === '') {
        if (volumes.length !== 1) {
          throw new VolumeError('not-found', `there is no default export among ${volumes.length} volumes: ask for one by its name`);
        }
        name = volumes[0].name;
      }
      description = volumes.find((volume) => volume.name === name)?.description ?? '';
    }
    const device = await this.#acquireVolume(name);
    return { name, device, readOnly: device.readOnly || this.#client.termsOf(name) === 'read-only', description, terms: this.#negotiation.termsFor(exportName) };
  }

  async #acquireVolume(name: string): Promise<BlockDevice> {
    if (!this.#isVisible(name)) throw this.#noExport(name, { terms: this.#client.termsOf(name) });
    this.#options.report({ kind: 'opening', exportName: name });
    try {
      return await this.#resources.directory.acquire(name);
    } catch (error) {
      // What the directory says of it names its other volumes.
      if (error instanceof VolumeError && error.code === 'not-found') throw this.#noExport(name);
      throw error;
    } finally {
      this.#options.report({ kind: 'opened', exportName: name });
    }
  }

  /** The client is given the message alone; `context` is for the log. */
  #noExport(name: string, context: ErrorContext = {}): VolumeError {
    return new VolumeError('not-found', `there is no export ${JSON.stringify(name)}${this.#isPlainOn('selective') ? ' without TLS' : ''}`, { context });
  }
}

/** All messages of one answer in one piece: some clients read an answer with a single call. */
function concatenate(messages: readonly Uint8Array[]): Uint8Array {
  const target = new Uint8Array(messages.reduce((sum, message) => sum + message.length, 0));
  let at = 0;
  for (const message of messages) {
    target.set(message, at);
    at += message.length;
  }
  return target;
}
