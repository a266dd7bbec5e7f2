/**
 * The handshake from the client's side (NBD document, "Fixed newstyle negotiation"), one export by NBD_OPT_GO or NBD_OPT_INFO: bytes in,
 * bytes out. Structured replies are not asked for: the kernel's client, which goes on from here, knows simple ones only.
 */
import { VolumeError, type ErrorCode } from '../base/errors.ts';
import {
  IHAVEOPT_HIGH,
  IHAVEOPT_LOW,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_OPT_ABORT,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_REP_ACK,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_FLAG_ERROR,
  NBD_REP_INFO,
  NBD_REP_MAGIC_HIGH,
  NBD_REP_MAGIC_LOW,
  NBDMAGIC_HIGH,
  NBDMAGIC_LOW,
} from './constants.ts';
import { type BlockSizes, encodeText, OPTION_HEADER_BYTES, OPTION_REPLY_BYTES } from './negotiation.ts';
import { readU16, readU32, readU64, writeU16, writeU32 } from './wire.ts';

const GREETING_BYTES = 18;
/** Infos and texts of errors are far smaller; a server that sends more is none. */
const MAX_REPLY_DATA_BYTES = 64 * 1024;
const MAX_REPLIES = 100;
const textDecoder = new TextDecoder();

/** What a server says of an export. */
export interface ExportTerms {
  readonly sizeBytes: number;
  /** NBD_FLAG_... of transmission. */
  readonly flags: number;
  /** Null: the server did not say. */
  readonly blockSizes: BlockSizes | null;
}

const CODES: ReadonlyMap<number, ErrorCode> = new Map([
  [NBD_REP_ERR_UNKNOWN, 'not-found'],
  [NBD_REP_ERR_POLICY, 'denied'],
  [NBD_REP_ERR_SHUTDOWN, 'unavailable'],
]);

export function encodeOption(option: number, data: Uint8Array): Uint8Array {
  const target = new Uint8Array(OPTION_HEADER_BYTES + data.length);
  writeU32(target, 0, IHAVEOPT_HIGH);
  writeU32(target, 4, IHAVEOPT_LOW);
  writeU32(target, 8, option);
  writeU32(target, 12, data.length);
  target.set(data, OPTION_HEADER_BYTES);
  return target;
}

/** Option data of NBD_OPT_GO and NBD_OPT_INFO. */
export function encodeInfoRequest(exportName: string, infos: readonly number[]): Uint8Array {
  const name = encodeText(exportName);
  const data = new Uint8Array(6 + name.length + 2 * infos.length);
  writeU32(data, 0, name.length);
  data.set(name, 4);
  writeU16(data, 4 + name.length, infos.length);
  infos.forEach((info, index) => writeU16(data, 6 + name.length + 2 * index, info));
  return data;
}

export interface ClientHandshakeOptions {
  readonly exportName: string;
  /** `go`: transmission begins. `info`: only to look; the goodbye is `GOODBYE`. */
  readonly purpose: 'go' | 'info';
}

/** Ends a handshake that only looked. */
export const GOODBYE = encodeOption(NBD_OPT_ABORT, new Uint8Array(0));

/** Hand over what arrives; send what comes back. */
export class ClientHandshake {
  readonly #exportName: string;
  readonly #option: number;
  #input = new Uint8Array(0);
  #greeted = false;
  #replies = 0;
  #export: { readonly sizeBytes: number; readonly flags: number } | null = null;
  #blockSizes: BlockSizes | null = null;
  #terms: ExportTerms | null = null;

  constructor({ exportName, purpose }: ClientHandshakeOptions) {
    this.#exportName = exportName;
    this.#option = purpose === 'go' ? NBD_OPT_GO : NBD_OPT_INFO;
  }

  /** What the server says of the export, once it has said all. */
  get terms(): ExportTerms | null {
    return this.#terms;
  }

  /**
   * Takes bytes; returns what is to be sent, if anything. Throws `not-found`, `denied`, `unavailable` or `unsupported` for what the
   * server refuses, `unsupported` for what is no NBD server.
   */
  receive(bytes: Uint8Array): Uint8Array | null {
    const input = new Uint8Array(this.#input.length + bytes.length);
    input.set(this.#input);
    input.set(bytes, this.#input.length);
    this.#input = input;
    if (!this.#greeted) return this.#greeting();
    while (this.#terms === null && this.#reply());
    // Until it is asked for something a server has nothing to say.
    if (this.#terms !== null && this.#input.length > 0) throw broken(`${this.#input.length} bytes follow the end of its handshake`);
    return null;
  }

  #greeting(): Uint8Array | null {
    const input = this.#input;
    if (input.length >= 4 && readU32(input, 0) !== NBDMAGIC_HIGH) throw broken('it greets with other bytes');
    if (input.length < GREETING_BYTES) return null;
    if (readU32(input, 4) !== NBDMAGIC_LOW || readU32(input, 8) !== IHAVEOPT_HIGH || readU32(input, 12) !== IHAVEOPT_LOW) throw broken('it greets as servers did before 2011');
    const flags = readU16(input, 16);
    if ((flags & NBD_FLAG_FIXED_NEWSTYLE) === 0) throw broken('it does not know the fixed newstyle handshake');
    this.#greeted = true;
    this.#input = input.slice(GREETING_BYTES);
    const request = encodeOption(this.#option, encodeInfoRequest(this.#exportName, [NBD_INFO_BLOCK_SIZE]));
    const target = new Uint8Array(4 + request.length);
    writeU32(target, 0, NBD_FLAG_C_FIXED_NEWSTYLE | ((flags & NBD_FLAG_NO_ZEROES) === 0 ? 0 : NBD_FLAG_C_NO_ZEROES));
    target.set(request, 4);
    return target;
  }

  /** Takes one reply; false if it is not whole yet. */
  #reply(): boolean {
    const input = this.#input;
    if (input.length < OPTION_REPLY_BYTES) return false;
    if (readU32(input, 0) !== NBD_REP_MAGIC_HIGH || readU32(input, 4) !== NBD_REP_MAGIC_LOW) throw broken('its reply does not begin as one');
    const length = readU32(input, 16);
    if (length > MAX_REPLY_DATA_BYTES) throw broken(`it answers with ${length} bytes`);
    if (input.length < OPTION_REPLY_BYTES + length) return false;
    this.#replies += 1;
    if (readU32(input, 8) !== this.#option || this.#replies > MAX_REPLIES) throw broken('it answers what was not asked');
    const data = input.slice(OPTION_REPLY_BYTES, OPTION_REPLY_BYTES + length);
    this.#input = input.slice(OPTION_REPLY_BYTES + length);
    this.#take(readU32(input, 12), data);
    return true;
  }

  #take(type: number, data: Uint8Array): void {
    if (type >= NBD_REP_FLAG_ERROR) throw this.#refusal(type, textDecoder.decode(data));
    if (type === NBD_REP_INFO) this.#takeInfo(data);
    if (type !== NBD_REP_ACK) return;
    if (this.#export === null) throw broken('it does not say how large the export is');
    this.#terms = { ...this.#export, blockSizes: this.#blockSizes };
  }

  #takeInfo(data: Uint8Array): void {
    const info = data.length < 2 ? -1 : readU16(data, 0);
    if (info === NBD_INFO_EXPORT && data.length === 12) {
      const sizeBytes = readU64(data, 2);
      if (!Number.isSafeInteger(sizeBytes)) throw broken('an export of 2^53 bytes and more is too large');
      this.#export = { sizeBytes, flags: readU16(data, 10) };
    }
    if (info === NBD_INFO_BLOCK_SIZE && data.length === 14) this.#blockSizes = { minimumBytes: readU32(data, 2), preferredBytes: readU32(data, 6), maximumBytes: readU32(data, 10) };
  }

  #refusal(type: number, text: string): VolumeError {
    const name = JSON.stringify(this.#exportName);
    const said = text === '' ? '' : ` (it says: ${text})`;
    if (type === NBD_REP_ERR_TLS_REQD) return new VolumeError('unsupported', `the server wants TLS for export ${name}, which the kernel's NBD client does not speak${said}; a basalt server lets it in with server.tls = "selective" and no tls = "required" for the export`, { context: { tls: true } });
    if (type === NBD_REP_ERR_UNSUP) return new VolumeError('unsupported', `the server does not know NBD_OPT_GO, and is too old for this${said}`);
    const code = CODES.get(type) ?? 'unsupported';
    if (code === 'not-found') return new VolumeError(code, `the server has no export ${name}, or not for this client${said}`);
    return new VolumeError(code, `the server refuses export ${name} with error 2^31+${type - NBD_REP_FLAG_ERROR}${said}`);
  }
}

function broken(what: string): VolumeError {
  return new VolumeError('unsupported', `this is no NBD server, or one that is not understood: ${what}`);
}
