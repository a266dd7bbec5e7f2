/**
 * What a server must say to the options of one client, worked out from the NBD document and the rules of access, not with `src`: the two check
 * each other. It looks at the whole stream at once; where things are decided by the time at which they happen (shutdown, a directory that
 * begins to fail), the driver lets everything end first, so that the place in the stream decides.
 */
import type { Script } from './input-format.ts';
import { VOLUME_NAMES } from './input-format.ts';

export const OPT = { EXPORT_NAME: 1, ABORT: 2, LIST: 3, STARTTLS: 5, INFO: 6, GO: 7, STRUCTURED: 8, LIST_META: 9, SET_META: 10, EXTENDED: 11 } as const;
export const REP = { ACK: 1, SERVER: 2, INFO: 3, META: 4 } as const;
const ERR = { UNSUP: 0x80000001, POLICY: 0x80000002, INVALID: 0x80000003, PLATFORM: 0x80000004, TLS_REQD: 0x80000005, UNKNOWN: 0x80000006, SHUTDOWN: 0x80000007, TOO_BIG: 0x80000009, EXT_REQD: 0x8000000a } as const;
/** Their ids count from 1. */
const CONTEXT_NAMES = ['base:allocation', 'basalt:state', 'qemu:allocation-depth'] as const;
const TEXT_BYTES_MAX = 4096;
const QUERIES_MAX = 256;

export type Style = 'simple' | 'structured' | 'extended';

export interface ExpectedOption {
  readonly option: number;
  /** Where in the stream it ends. */
  readonly endAt: number;
  /** Types of the replies; null: the reply of EXPORT_NAME, which has no header. */
  readonly types: readonly number[] | null;
}

/** What the client has agreed on when transmission begins. */
export interface ExpectedTerms {
  readonly style: Style;
  /** Ids of contexts. */
  readonly contexts: readonly number[];
  readonly readOnly: boolean;
}

export type HandshakeEnd = 'open' | 'leaving' | 'broken' | 'securing' | 'transmission';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textOf(bytes: Uint8Array): string | null {
  if (bytes.length > TEXT_BYTES_MAX || bytes.includes(0)) return null;
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

interface Answer {
  readonly types: readonly number[];
}

const refused = (type: number): Answer => ({ types: [type] });
const ACK: Answer = { types: [REP.ACK] };

export class ExpectedHandshake {
  readonly options: ExpectedOption[] = [];
  /** Where what was looked at ends. */
  at = 0;
  end: HandshakeEnd = 'open';
  noZeroes = false;
  terms: ExpectedTerms | null = null;
  readonly #script: Script;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #endAt: number;
  readonly #shutdownAt: number;
  readonly #failsAt: number;
  #fixedNewstyle = false;
  #style: Style = 'simple';
  #contextsFor = '';
  #contexts: readonly number[] = [];

  constructor(script: Script, cuts: { readonly endAt: number; readonly shutdownAt: number; readonly failsAt: number }) {
    this.#script = script;
    this.#bytes = script.stream;
    this.#view = new DataView(script.stream.buffer, script.stream.byteOffset, script.stream.length);
    this.#endAt = cuts.endAt;
    this.#shutdownAt = cuts.shutdownAt;
    this.#failsAt = cuts.failsAt;
    this.#run();
  }

  get #isPlain(): boolean {
    return this.#script.client.securedFlags === null;
  }

  #run(): void {
    if (!this.#takeFlags()) return;
    for (let count = 1; this.end === 'open' && this.#endAt - this.at >= 16; count += 1) {
      const option = this.#view.getUint32(this.at + 8);
      const dataBytes = this.#view.getUint32(this.at + 12);
      const isOption = this.#view.getUint32(this.at) === 0x49484156 && this.#view.getUint32(this.at + 4) === 0x454f5054;
      const { maxOptions, maxOptionBytes } = this.#script.settings;
      if (!isOption || count > maxOptions || dataBytes > maxOptionBytes || (!this.#fixedNewstyle && option !== OPT.EXPORT_NAME)) {
        this.end = 'broken';
        return;
      }
      const end = this.at + 16 + dataBytes;
      if (end > this.#endAt) return;
      const data = this.#bytes.subarray(this.at + 16, end);
      this.at = end;
      if (option === OPT.EXPORT_NAME) this.#exportName(data);
      else this.options.push({ option, endAt: end, types: this.#answer(option, data).types });
    }
  }

  #takeFlags(): boolean {
    const { securedFlags } = this.#script.client;
    let flags = securedFlags ?? 0;
    if (securedFlags === null) {
      if (this.#endAt < 4) return false;
      flags = this.#view.getUint32(0);
      if (flags > 3) {
        this.end = 'broken';
        return false;
      }
      this.at = 4;
    }
    this.#fixedNewstyle = (flags & 1) !== 0;
    this.noZeroes = (flags & 2) !== 0;
    return true;
  }

  get #isShuttingDown(): boolean {
    return this.at > this.#shutdownAt;
  }

  get #directoryFails(): boolean {
    return this.at > this.#failsAt;
  }

  #answer(option: number, data: Uint8Array): Answer {
    const { tls } = this.#script.client;
    if (option === OPT.ABORT) {
      this.end = 'leaving';
      return ACK;
    }
    if (this.#isShuttingDown) return refused(ERR.SHUTDOWN);
    if (option === OPT.STARTTLS) {
      if (data.length > 0 || !this.#isPlain) return refused(ERR.INVALID);
      if (tls === 'off') return refused(ERR.POLICY);
      this.end = 'securing';
      return ACK;
    }
    if (tls === 'forced' && this.#isPlain) return refused(ERR.TLS_REQD);
    if (option === OPT.LIST) return this.#list(data);
    if (option === OPT.INFO || option === OPT.GO) return this.#info(option, data);
    if (option === OPT.STRUCTURED || option === OPT.EXTENDED) return this.#agree(option, data);
    if (option === OPT.LIST_META || option === OPT.SET_META) return this.#meta(option, data);
    return refused(ERR.UNSUP);
  }

  #isVisible(name: string): boolean {
    const terms = this.#script.client.termsOf(name);
    return terms === 'read-only' || terms === 'writable';
  }

  #list(data: Uint8Array): Answer {
    if (data.length > 0) return refused(ERR.INVALID);
    if (this.#directoryFails) return refused(ERR.PLATFORM);
    return { types: [...VOLUME_NAMES.filter((name) => this.#isVisible(name)).map(() => REP.SERVER), REP.ACK] };
  }

  /** The volume that is opened by that name; why not, otherwise. */
  #find(exportName: string, describe: boolean): string | { readonly notFound: boolean } {
    const name = exportName === '' ? this.#script.settings.defaultExport : exportName;
    if (this.#directoryFails && (name === '' || describe)) return { notFound: false };
    if (name === '' || !this.#isVisible(name)) return { notFound: true };
    if (this.#directoryFails) return { notFound: false };
    return VOLUME_NAMES.some((known) => known === name) ? name : { notFound: true };
  }

  #begin(name: string, exportName: string): void {
    const readOnly = name === 'fixed' || this.#script.client.termsOf(name) === 'read-only';
    this.terms = { style: this.#style, contexts: exportName === this.#contextsFor ? this.#contexts : [], readOnly };
    this.end = 'transmission';
  }

  #exportName(data: Uint8Array): void {
    const name = textOf(data);
    const isForced = this.#script.client.tls === 'forced' && this.#isPlain;
    const found = name === null || isForced || this.#isShuttingDown || this.#style === 'extended' ? null : this.#find(name, false);
    if (typeof found !== 'string' || name === null) {
      this.end = 'broken';
      return;
    }
    this.options.push({ option: OPT.EXPORT_NAME, endAt: this.at, types: null });
    this.#begin(found, name);
  }

  #info(option: number, data: Uint8Array): Answer {
    if (data.length < 6) return refused(ERR.INVALID);
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const nameBytes = view.getUint32(0);
    if (nameBytes > data.length - 6) return refused(ERR.INVALID);
    const count = view.getUint16(4 + nameBytes);
    const name = textOf(data.subarray(4, 4 + nameBytes));
    if (data.length !== 6 + nameBytes + 2 * count || name === null) return refused(ERR.INVALID);
    const asked = new Set<number>();
    for (let index = 0; index < count; index += 1) asked.add(view.getUint16(6 + nameBytes + 2 * index));
    const found = this.#find(name, asked.has(2));
    if (typeof found !== 'string') return refused(found.notFound && this.#script.client.tls === 'selective' && this.#isPlain ? ERR.TLS_REQD : ERR.UNKNOWN);
    const infos = 1 + (asked.has(1) ? 1 : 0) + (asked.has(2) && found === 'disk' ? 1 : 0) + (asked.has(3) ? 1 : 0);
    if (option === OPT.GO) this.#begin(found, name);
    return { types: [...Array.from({ length: infos }, () => REP.INFO), REP.ACK] };
  }

  #agree(option: number, data: Uint8Array): Answer {
    const wanted: Style = option === OPT.EXTENDED ? 'extended' : 'structured';
    if (data.length > 0 || this.#style === wanted) return refused(ERR.INVALID);
    if (this.#style === 'extended') return refused(ERR.EXT_REQD);
    this.#style = wanted;
    return ACK;
  }

  #meta(option: number, data: Uint8Array): Answer {
    if (option === OPT.SET_META) {
      this.#contexts = [];
      if (this.#style === 'simple') return refused(ERR.INVALID);
    }
    const asked = queriesOf(data);
    if (asked === null) return refused(ERR.INVALID);
    const { name, queries } = asked;
    if (queries.length > QUERIES_MAX) return refused(ERR.TOO_BIG);
    if (queries.some((query) => !query.includes(':'))) return refused(ERR.INVALID);
    if (typeof this.#find(name, false) !== 'string') return refused(ERR.UNKNOWN);
    const isListing = option === OPT.LIST_META;
    const found = CONTEXT_NAMES.flatMap((context, index) => {
      const isMeant = queries.includes(context) || (isListing && (queries.length === 0 || queries.includes(context.slice(0, context.indexOf(':') + 1))));
      return isMeant ? [index + 1] : [];
    });
    if (!isListing) {
      this.#contextsFor = name;
      this.#contexts = found;
    }
    return { types: [...found.map(() => REP.META), REP.ACK] };
  }
}

function queriesOf(data: Uint8Array): { name: string; queries: string[] } | null {
  if (data.length < 8) return null;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const nameBytes = view.getUint32(0);
  if (nameBytes > data.length - 8) return null;
  const name = textOf(data.subarray(4, 4 + nameBytes));
  const count = view.getUint32(4 + nameBytes);
  const queries: string[] = [];
  let at = 8 + nameBytes;
  for (let index = 0; index < count; index += 1) {
    if (data.length - at < 4) return null;
    const end = at + 4 + view.getUint32(at);
    const query = end > data.length ? null : textOf(data.subarray(at + 4, end));
    if (query === null) return null;
    queries.push(query);
    at = end;
  }
  return name === null || at !== data.length ? null : { name, queries };
}
