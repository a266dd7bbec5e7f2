/** The socket on a descriptor that was connected before this process began. */
import net from 'node:net';

/** Standard input; nothing of it is read before somebody asks. Both directions are one socket. */
export function openStdin(): net.Socket {
  const options: net.SocketConstructorOpts & { readonly pauseOnCreate: boolean } = { fd: 0, readable: true, writable: true, allowHalfOpen: true, pauseOnCreate: true };
  return new net.Socket(options);
}
