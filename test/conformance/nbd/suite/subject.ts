/** The server as a behaviour sees it: connections in whatever state it wants, with everything said written down. */
import { NBD_CMD_READ, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD, NBD_REP_ERR_UNKNOWN, NBD_REP_FLAG_ERROR } from '../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../support/nbd-bytes.ts';
import { NbdClient, type RawReply, type RawRequest } from '../../../support/nbd-client.ts';
import type { ReplyStyle } from '../../../support/reply-reader.ts';
import type { Need } from './behaviour.ts';
import { Deviation, expectOneOf } from './check.ts';
import type { Facts } from './facts.ts';
import { commandName, errorName, replyName } from './names.ts';
import { LACKS } from './needs.ts';
import type { Target } from './target.ts';

const TAPE_LINES = 12;
const TAPE_BYTES = 40;

export interface OpenOptions {
  readonly contexts?: readonly string[];
  readonly infos?: readonly number[];
  readonly name?: string;
}

export class Subject {
  readonly target: Target;
  readonly facts: Facts;
  readonly tape: string[] = [];
  /** What is worth telling of a behaviour that has several right answers. */
  remark = '';
  readonly #clients: NbdClient[] = [];

  constructor(target: Target, facts: Facts) {
    this.target = target;
    this.facts = facts;
  }

  /** Why the server is not asked for a behaviour with that need; null if it is. */
  lacks(need: Need): string | null {
    return LACKS[need](this.facts, this.target);
  }

  /** How an export that is not there is refused: where TLS could be had it may as well be one of TLS. */
  get refusalsOfUnknown(): readonly number[] {
    return this.facts.hasUnusedTls ? [NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_TLS_REQD] : [NBD_REP_ERR_UNKNOWN];
  }

  /** Connected; nothing was said. */
  async connect(target: Target = this.target): Promise<NbdClient> {
    const client = NbdClient.over(await target.connect());
    client.reader.allowsSimpleErrors = true; // it is a behaviour of its own
    const number = this.#clients.push(client);
    client.tape = (direction, bytes) => {
      const shown = Buffer.from(bytes.subarray(0, TAPE_BYTES)).toString('hex');
      this.tape.push(`${number}${direction} ${bytes.length} bytes: ${shown}${bytes.length > TAPE_BYTES ? '…' : ''}`);
      if (this.tape.length > TAPE_LINES) this.tape.shift();
    };
    return client;
  }

  /** Greeted, and no TLS yet. */
  async greeted(flags = 3, target: Target = this.target): Promise<NbdClient> {
    const client = await this.connect(target);
    await client.greet(flags);
    return client;
  }

  /** Greeted, in TLS if the URI says so: options may follow. */
  async negotiating(flags = 3, target: Target = this.target): Promise<NbdClient> {
    const client = await this.greeted(flags, target);
    if (target.tls !== null) await client.startTls(target.tls);
    return client;
  }

  /** Negotiating, and replies of that style agreed. */
  async agreed(style: ReplyStyle): Promise<NbdClient> {
    const client = await this.negotiating();
    if (style !== 'simple') await client.agree(style);
    return client;
  }

  /** In transmission. */
  async open(style: ReplyStyle = 'simple', { contexts = [], infos = [3], name = this.target.exportName }: OpenOptions = {}): Promise<NbdClient> {
    const client = await this.agreed(style);
    if (contexts.length > 0) await client.contexts(NBD_OPT_SET_META_CONTEXT, name, contexts);
    await client.go(name, infos);
    return client;
  }

  /** The option must be refused with one of these errors, perhaps after replies that are none; returns its text. */
  async refuses(client: NbdClient, option: number, data: Uint8Array, allowed: readonly number[]): Promise<string> {
    client.send(optionBytes(option, data));
    let reply = await client.takeOptionReply(option);
    while (reply.type > NBD_REP_ACK && reply.type < NBD_REP_FLAG_ERROR) reply = await client.takeOptionReply(option);
    const { type, data: text } = reply;
    expectOneOf(`the answer to option ${option} with ${data.length} bytes of data`, type, allowed, replyName);
    return text.toString();
  }

  /** Negotiation goes on as if nothing had been, and ABORT ends it with not a byte too many. */
  async isInSync(client: NbdClient): Promise<void> {
    const info = await client.info(this.target.exportName);
    if (info.sizeBytes !== this.facts.export.sizeBytes) throw new Deviation('the size of the export afterwards', { expected: String(this.facts.export.sizeBytes), got: String(info.sizeBytes) });
    await client.abort();
  }

  /** The request must end with one of these errors. */
  async answers(client: NbdClient, request: RawRequest, allowed: readonly number[]): Promise<RawReply> {
    const reply = await client.request(request);
    const { command, offset = 0, length = request.payload?.length ?? 0, flags = 0 } = request;
    expectOneOf(`the answer to ${commandName(command)} ${offset}+${length}, flags ${flags}`, reply.error, allowed, errorName);
    return reply;
  }

  /** Transmission goes on as if nothing had been, and DISC ends it with not a byte too many. */
  async stillTransmits(client: NbdClient): Promise<void> {
    await this.answers(client, { command: NBD_CMD_READ, offset: 0, length: this.facts.unit }, [0]);
    await client.close();
  }

  /** A new client is served. */
  async serves(): Promise<void> {
    const client = await this.open();
    await this.stillTransmits(client);
  }

  dispose(): void {
    for (const client of this.#clients.splice(0)) client.socket.destroy();
  }
}
