/**
 * How a session's bytes come from a socket. Two ways, one interface:
 * - `onread`: the kernel's bytes land where the session wants them. Measured against stream events, on Node 20 and 24, unix socket:
 *   2-3 times the throughput of 128 KiB and 1 MiB writes, since no buffer is made and dropped for each 64 KiB.
 * - `stream`: plain 'data' events and one more copy; what TLS needs, and what is left if a Node release takes the first way away.
 *
 * `onread` takes over the handle of a socket that the server has accepted and not started (`pauseOnConnect`): Node lets only the
 * maker of a socket choose its read buffer, and the server makes it without asking. The handle is the one internal name used here.
 */
import net from 'node:net';

/** Who takes the bytes; a session. */
export interface Receiver {
  readonly wantsInput: boolean;
  readTarget(): Uint8Array;
  received(byteCount: number): void;
}

export const RECEIVE_PATHS = ['onread', 'stream'] as const;
export type ReceivePath = (typeof RECEIVE_PATHS)[number];

export interface Transport {
  readonly path: ReceivePath | 'tls';
  /** The socket to send on, and to listen to for 'end', 'error' and 'close'. Its other direction may be open when one has ended. */
  readonly socket: net.Socket;
  /** Reads on, after the receiver did not want input for a while. */
  resumeReading(): void;
  /** Reads no more, for good. False: bytes have been read that the receiver has not had. */
  stopReading(): boolean;
}

/** Starts to read an accepted, paused socket. Falls back to `stream` when the handle cannot be had. */
export function openTransport(accepted: net.Socket, receiver: Receiver, path: ReceivePath): Transport {
  const handle: unknown = path === 'onread' ? Reflect.get(accepted, '_handle') : null;
  if (typeof handle !== 'object' || handle === null) return openStream(accepted, receiver);
  Reflect.set(accepted, '_handle', null);
  accepted.destroy(); // only the shell: it takes the connection off the server's own count
  return openOnread(handle, receiver);
}

function openOnread(handle: object, receiver: Receiver): Transport {
  const options: net.SocketConstructorOpts & { readonly handle: object; readonly onread: net.OnReadOpts } = {
    handle,
    allowHalfOpen: true,
    onread: {
      buffer: () => receiver.readTarget(),
      callback: (byteCount) => {
        receiver.received(byteCount);
        return receiver.wantsInput; // false stops reading; `readTarget` is asked right after it
      },
    },
  };
  const socket = new net.Socket(options);
  return { path: 'onread', socket, resumeReading: () => void socket.resume(), stopReading: () => true };
}

/** Reads a socket that TLS stands on. Node lets nobody choose the buffer of one that is accepted. */
export function openSecured(socket: net.Socket, receiver: Receiver): Transport {
  // Several buffers in one write are copied into one, in fresh memory, before they are encrypted; one by one they are encrypted from where they are.
  Object.defineProperty(socket, '_writev', { value: null });
  return { ...openStream(socket, receiver), path: 'tls' };
}

function openStream(socket: net.Socket, receiver: Receiver): Transport {
  let held: Uint8Array | null = null;
  const deliver = (chunk: Uint8Array): void => {
    let at = 0;
    while (at < chunk.length && receiver.wantsInput) {
      const target = receiver.readTarget();
      const byteCount = Math.min(target.length, chunk.length - at);
      target.set(chunk.subarray(at, at + byteCount));
      at += byteCount;
      receiver.received(byteCount);
    }
    if (receiver.wantsInput) return;
    socket.pause();
    held = at < chunk.length ? chunk.subarray(at) : null;
  };
  const resumeReading = (): void => {
    const rest = held;
    held = null;
    if (rest !== null) deliver(rest);
    if (receiver.wantsInput) socket.resume();
  };
  socket.on('data', deliver);
  socket.resume();
  const stopReading = (): boolean => {
    socket.off('data', deliver);
    socket.pause();
    return held === null;
  };
  return { path: 'stream', socket, resumeReading, stopReading };
}
