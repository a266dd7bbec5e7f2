/** What Node does not say of sockets, by way of `koffi`. */
import { systemCode } from '../base/errors.ts';
import { bindNative, type NativeCall } from './node-koffi.ts';

/** Of Linux, the same on x64 and arm64. */
const POLLERR = 0x8;
const POLLHUP = 0x10;
const POLLRDHUP = 0x2000;
const EVENTS_AT = 4;
const REVENTS_AT = 6;

/** A struct pollfd; there is one look at a time. */
const pollfd = Buffer.alloc(8);
let poll: NativeCall | null | undefined;

function pollCall(): NativeCall | null {
  if (poll !== undefined) return poll;
  try {
    poll = bindNative('looks at sockets', (koffi) => koffi.load(null).func('poll', 'int', ['void *', 'uint64_t', 'int']));
  } catch (error) {
    if (systemCode(error) !== 'ENOSYS') throw error;
    poll = null;
  }
  return poll;
}

/** Whether the peer of a connected socket has closed its direction or reset the connection, though what it sent before may be unread: Node says it when all is read. Null without `koffi`. */
export function hasPeerLeft(descriptor: number): boolean | null {
  const call = pollCall();
  if (call === null) return null;
  pollfd.writeInt32LE(descriptor);
  pollfd.writeInt16LE(POLLRDHUP, EVENTS_AT);
  return call(pollfd, 1, 0) === 1 && (pollfd.readUInt16LE(REVENTS_AT) & (POLLRDHUP | POLLHUP | POLLERR)) !== 0;
}
