/**
 * Sockets that Node cannot make, and descriptors that it cannot copy, by way of `koffi`. Only socket(2), bind(2), setsockopt(2) and fcntl(2)
 * are called so: reading and writing goes by `node:fs`, whose calls run on the thread pool and tell their errors.
 */
import { closeSync, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { systemCode } from '../base/errors.ts';
import { bindNative, type NativeCall, systemErrorOf } from './node-koffi.ts';

/** Of Linux, the same on every machine that is taken here. */
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_GENERIC = 16;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const F_DUPFD_CLOEXEC = 1030;
const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const TCP_ESTABLISHED = 1;
const TCP_CLOSE = 7;
const SOCKADDR_NL_BYTES = 12;
/** A reader that waits looks this often whether its socket was closed. */
const RECEIVE_WAIT_MS = 250;
const RECEIVE_BYTES = 64 * 1024;

const readDescriptor = promisify(read);
const writeDescriptor = promisify(write);

interface Calls {
  readonly socket: NativeCall;
  readonly bind: NativeCall;
  readonly setsockopt: NativeCall;
  readonly getsockopt: NativeCall;
  readonly fcntl: NativeCall;
  readonly errno: () => number;
}

let loaded: Calls | null = null;

function calls(): Calls {
  loaded ??= bindNative('netlink sockets', (koffi) => {
    const library = koffi.load(null);
    return {
      socket: library.func('socket', 'int', ['int', 'int', 'int']),
      bind: library.func('bind', 'int', ['int', 'const void *', 'uint32_t']),
      setsockopt: library.func('setsockopt', 'int', ['int', 'int', 'int', 'const void *', 'uint32_t']),
      getsockopt: library.func('getsockopt', 'int', ['int', 'int', 'int', 'void *', 'void *']),
      fcntl: library.func('fcntl', 'int', ['int', 'int', 'int']),
      errno: () => koffi.errno(),
    };
  });
  return loaded;
}

/** The result of a call, or its error. */
function done({ errno }: Calls, result: unknown, what: string): number {
  if (typeof result === 'number' && result >= 0) return result;
  throw systemErrorOf(errno(), what);
}

function int32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

/** A generic netlink socket. What `receive` returns is one datagram, of which there may be several messages. */
export class NodeNetlinkSocket {
  readonly #descriptor: number;
  #isOpen = true;
  #isReceiving = false;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** To the kernel, which has done what it is asked for when this resolves. */
  async send(message: Uint8Array): Promise<void> {
    await writeDescriptor(this.#descriptor, message);
  }

  /** The next datagram; null once the socket is closed. One caller at a time. Fails with `ENOBUFS` where messages were lost. */
  async receive(): Promise<Uint8Array | null> {
    const target = Buffer.alloc(RECEIVE_BYTES);
    this.#isReceiving = true;
    try {
      while (this.#isOpen) {
        const lengthBytes = await this.#read(target);
        if (lengthBytes !== null) return target.subarray(0, lengthBytes);
      }
      closeSync(this.#descriptor);
      return null;
    } finally {
      this.#isReceiving = false;
    }
  }

  /** Null: nothing has come for a while. */
  async #read(target: Uint8Array): Promise<number | null> {
    try {
      return (await readDescriptor(this.#descriptor, target, 0, target.length, null)).bytesRead;
    } catch (error) {
      if (systemCode(error) === 'EAGAIN') return null;
      throw error;
    }
  }

  /** Messages of a multicast group come from now on. */
  join(group: number): void {
    const native = calls();
    done(native, native.setsockopt(this.#descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int32(group), 4), `joining netlink group ${group}`);
  }

  /** A `receive` that waits ends within a moment, with null. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (!this.#isReceiving) closeSync(this.#descriptor);
  }
}

/** Throws `ENOSYS` where koffi is missing. */
export function openGenericNetlink(): NodeNetlinkSocket {
  const native = calls();
  const descriptor = done(native, native.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC), 'a netlink socket');
  try {
    const address = Buffer.alloc(SOCKADDR_NL_BYTES);
    address.writeUInt16LE(AF_NETLINK);
    done(native, native.bind(descriptor, address, address.length), 'binding a netlink socket');
    const wait = Buffer.alloc(16); // a struct timeval
    wait.writeUInt32LE(RECEIVE_WAIT_MS * 1000, 8);
    done(native, native.setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, wait, wait.length), 'the time limit of a netlink socket');
    return new NodeNetlinkSocket(descriptor);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** Another descriptor of the same open file or socket, which is the caller's to close. */
export function duplicateDescriptor(descriptor: number): number {
  const native = calls();
  return done(native, native.fcntl(descriptor, F_DUPFD_CLOEXEC, 0), `a second descriptor for ${descriptor}`);
}

/**
 * What has become of a connection that another owner (the kernel's NBD client) uses: `open`; `closing`: it is shut down here, and the peer may
 * still read what was sent; `closed`: the peer has read all of it, or never will. Null: no TCP socket, so nobody can tell.
 */
export type TcpState = 'open' | 'closing' | 'closed';

export function tcpStateOf(descriptor: number): TcpState | null {
  const native = calls();
  const info = Buffer.alloc(1); // a struct tcp_info begins with the state
  if (native.getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, int32(info.length)) !== 0) return null;
  if (info[0] === TCP_ESTABLISHED) return 'open';
  return info[0] === TCP_CLOSE ? 'closed' : 'closing';
}
