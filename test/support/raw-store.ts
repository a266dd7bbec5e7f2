/** A server that answers each request with whatever bytes a test gives it, over TCP or TLS: what no HTTP server can be brought to say. */
import net from 'node:net';
import tls from 'node:tls';
import { setImmediate as nextTurn } from 'node:timers/promises';

const HEAD_END = '\r\n\r\n';

/** Called with each request (all of its head), and the how manieth it is over its connection, from 0. */
export type Answerer = (socket: net.Socket, request: string, index: number) => void;

export interface RawStoreOptions {
  readonly host?: string;
  /** One that is free, if it is not given. */
  readonly port?: number;
  /** Null: TCP. */
  readonly identity?: { readonly cert: string; readonly key: string } | null;
  readonly allowHalfOpen?: boolean;
}

/** Waits until something is so, turn by turn of the event loop. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await nextTurn();
}

export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await nextTurn();
}

/** What was sent on loopback before this has been received after it. */
export function settled(): Promise<void> {
  return turns(4);
}

/** How many sockets keep this process from its end. */
export function keepers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
}

export function answerOf(body: string | Uint8Array, { status = '206 Partial Content', headers = [] }: { readonly status?: string; readonly headers?: readonly string[] } = {}): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([Buffer.from([`HTTP/1.1 ${status}`, `Content-Length: ${bytes.length}`, ...headers, '', ''].join('\r\n')), bytes]);
}

export class RawStore {
  readonly #server: net.Server | tls.Server;
  readonly requests: string[] = [];
  /** Connections that are open. */
  readonly open = new Set<net.Socket>();
  connectionCount = 0;
  answer: Answerer;

  private constructor(answer: Answerer, { identity = null, allowHalfOpen = false }: RawStoreOptions) {
    this.answer = answer;
    const onConnection = (socket: net.Socket): void => this.#serve(socket);
    this.#server = identity === null ? net.createServer({ allowHalfOpen }, onConnection) : tls.createServer({ ...identity, allowHalfOpen }, onConnection);
    // It shares a process with the client, whose end it must not delay: see the tests of who keeps the process.
    this.#server.unref();
    this.#server.on('connection', (socket: net.Socket) => socket.unref());
    this.#server.on('tlsClientError', () => undefined); // the client says why
  }

  static async listen(answer: Answerer, options: RawStoreOptions = {}): Promise<RawStore> {
    const store = new RawStore(answer, options);
    await new Promise<void>((resolve, reject) => {
      store.#server.once('error', reject);
      store.#server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve);
    });
    return store;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  #serve(socket: net.Socket): void {
    this.connectionCount += 1;
    this.open.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => undefined); // clients that leave are what is tested
    socket.once('close', () => this.open.delete(socket));
    let text = '';
    let index = 0;
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      for (let end = text.indexOf(HEAD_END); end !== -1; end = text.indexOf(HEAD_END)) {
        const request = text.slice(0, end);
        text = text.slice(end + HEAD_END.length);
        this.requests.push(request);
        this.answer(socket, request, index);
        index += 1;
      }
    });
  }

  async close(): Promise<void> {
    for (const socket of this.open) socket.destroy();
    await new Promise((resolve) => void this.#server.close(resolve));
  }
}
