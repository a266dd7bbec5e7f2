/** The kernel's NBD client by generic netlink. */
import { getSystemErrorName } from 'node:util';
import { SerialQueue } from '../base/async.ts';
import { systemCode, toVolumeError, VolumeError, type ErrorCode } from '../base/errors.ts';
import type { NbdKernel, Unsubscribe } from './kernel.ts';
import {
  type ConnectMessage,
  decodeConnected,
  decodeFamily,
  decodeLinkDead,
  decodeStatus,
  type DeviceStatus,
  encodeConnect,
  encodeDisconnect,
  encodeGetFamily,
  encodeReconfigure,
  encodeStatus,
  type NbdFamily,
  type ReconfigureMessage,
} from './nbd-netlink.ts';
import { decodeAnswers, type NetlinkAnswer } from './netlink.ts';

/** A datagram socket of generic netlink. */
export interface NetlinkSocket {
  /** The kernel has done what the message asks for when this resolves. */
  send(message: Uint8Array): Promise<void>;
  /** The next datagram; null once it is closed. Fails with `ENOBUFS` where messages were lost. */
  receive(): Promise<Uint8Array | null>;
  join(group: number): void;
  close(): void;
}

type Message = NetlinkAnswer & { readonly kind: 'message' };

const CODES: Readonly<Record<string, ErrorCode>> = { EPERM: 'denied', EACCES: 'denied', EBUSY: 'in-use', ENODEV: 'not-found', ENOENT: 'not-found' };

function kernelError(what: string, errno: number): VolumeError {
  const name = getSystemErrorName(-errno);
  return new VolumeError(CODES[name] ?? 'io-error', `the kernel refuses ${what}: ${name}`, { context: { errno: name } });
}

export class NetlinkKernel implements NbdKernel {
  readonly #open: () => NetlinkSocket;
  readonly #socket: NetlinkSocket;
  readonly #family: NbdFamily;
  readonly #queue = new SerialQueue();
  #sequence: number;

  private constructor(open: () => NetlinkSocket, socket: NetlinkSocket, family: NbdFamily, sequence: number) {
    this.#open = open;
    this.#socket = socket;
    this.#family = family;
    this.#sequence = sequence;
  }

  /** Rejects with `not-found` where the kernel has no NBD family: the module is not loaded, or too old. */
  static async open(open: () => NetlinkSocket): Promise<NetlinkKernel> {
    const socket = open();
    try {
      const messages = await exchange(socket, 1, encodeGetFamily(1), 'its NBD family (the module nbd is not loaded)');
      if (messages.length === 0) throw new VolumeError('unsupported', 'the kernel says nothing of its NBD family');
      return new NetlinkKernel(open, socket, decodeFamily(messages[0]), 1);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  async connect(message: ConnectMessage): Promise<number> {
    const device = message.index === null ? 'a free device' : `/dev/nbd${message.index}`;
    const answers = await this.#ask((numbered) => encodeConnect(numbered, message), `to attach ${device}`);
    if (answers.length > 0) return decodeConnected(answers[0]);
    if (message.index !== null) return message.index;
    throw new VolumeError('unsupported', 'the kernel has attached a device and does not say which; basalt attached lists them');
  }

  async reconfigure(message: ReconfigureMessage): Promise<void> {
    await this.#ask((numbered) => encodeReconfigure(numbered, message), `to change /dev/nbd${message.index}`);
  }

  async disconnect(index: number): Promise<void> {
    await this.#ask((numbered) => encodeDisconnect(numbered, index), `to detach /dev/nbd${index}`);
  }

  async status(): Promise<readonly DeviceStatus[]> {
    const answers = await this.#ask(encodeStatus, 'to list its devices');
    return answers.flatMap(decodeStatus);
  }

  watch(onDead: (index: number | null) => void, onFailed: (error: unknown) => void): Promise<Unsubscribe> {
    const { group } = this.#family;
    if (group === null) return Promise.reject(new VolumeError('unsupported', 'this kernel does not tell of dead connections: it takes Linux 4.13 or later'));
    const socket = this.#open();
    try {
      socket.join(group);
    } catch (error) {
      socket.close();
      return Promise.reject(toVolumeError(error, 'listening to the kernel'));
    }
    listen(socket, onDead).catch(onFailed);
    return Promise.resolve(() => socket.close());
  }

  close(): void {
    this.#socket.close();
  }

  #ask(encode: (numbered: { readonly family: number; readonly sequence: number }) => Uint8Array, what: string): Promise<readonly Message[]> {
    return this.#queue.run(() => {
      this.#sequence += 1;
      return exchange(this.#socket, this.#sequence, encode({ family: this.#family.family, sequence: this.#sequence }), what);
    });
  }
}

/** Sends one request, and collects what is said before its end. */
async function exchange(socket: NetlinkSocket, sequence: number, request: Uint8Array, what: string): Promise<readonly Message[]> {
  const messages: Message[] = [];
  try {
    await socket.send(request);
    for (;;) {
      const datagram = await socket.receive();
      if (datagram === null) throw new VolumeError('closed', 'the netlink socket was closed');
      for (const answer of decodeAnswers(datagram)) {
        if (answer.sequence !== sequence) continue; // of a request that was given up
        if (answer.kind === 'message') messages.push(answer);
        else if (answer.errno !== 0) throw kernelError(what, answer.errno);
        else return messages;
      }
    }
  } catch (error) {
    throw toVolumeError(error, `asking the kernel ${what}`);
  }
}

async function listen(socket: NetlinkSocket, onDead: (index: number | null) => void): Promise<void> {
  for (;;) {
    const datagram = await socket.receive().catch((error: unknown) => {
      if (systemCode(error) === 'ENOBUFS') return 'lost' as const;
      throw error;
    });
    if (datagram === null) return;
    if (datagram === 'lost') onDead(null);
    else tell(datagram, onDead);
  }
}

function tell(datagram: Uint8Array, onDead: (index: number | null) => void): void {
  for (const answer of decodeAnswers(datagram)) {
    if (answer.kind !== 'message') continue;
    const index = decodeLinkDead(answer);
    if (index !== null) onDead(index);
  }
}
