/**
 * A proxy in front of a real S3 server that does to requests and answers what networks, load balancers and broken stores do. Signatures cover
 * the host's name, which is forwarded as it came, so the server believes what passes untouched.
 */
import { Agent, createServer, request as sendRequest, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';

export type Fault =
  /** Passes on after this long. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** Takes the request and never says anything. */
  | { readonly kind: 'hang' }
  /** Answers by itself, without the server. */
  | { readonly kind: 'answer'; readonly status: number; readonly code: string }
  /** A page of HTML, as the web server that somebody took for a store. */
  | { readonly kind: 'web-page'; readonly status: number }
  /** The connection breaks when this much of the request's body has been passed on. */
  | { readonly kind: 'cut-request'; readonly bytes: number }
  /** The connection breaks when this much of the answer's body has been passed on. */
  | { readonly kind: 'cut-answer'; readonly bytes: number }
  /** The server does what it was asked for; then the connection breaks, or stays silent. */
  | { readonly kind: 'lose-answer'; readonly silently: boolean }
  /** The answer's body is shorter (negative) or longer, and says so. */
  | { readonly kind: 'resize-answer'; readonly bytes: number }
  /** One bit of the answer's, or of the request's, body. */
  | { readonly kind: 'flip-answer'; readonly at: number }
  | { readonly kind: 'flip-request'; readonly at: number }
  /** What the answer says of itself. */
  | { readonly kind: 'change-answer'; readonly status?: number; readonly headers: Readonly<Record<string, string | null>> };

export interface FaultRule {
  readonly method?: string;
  /** Of the path. */
  readonly path?: RegExp;
  /** How many requests meet it; without it, all. */
  readonly times?: number;
  readonly fault: Fault;
}

interface ActiveRule extends FaultRule {
  left: number;
}

/** The certificate to speak TLS with. */
export type ProxyTls = Pick<ServerOptions, 'cert' | 'key'>;

export class S3Proxy {
  readonly #server: Server;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #upstreamPort: number;
  readonly #isTls: boolean;
  #rules: ActiveRule[] = [];
  /** Requests that came in: `PUT /bucket/key`. */
  readonly seen: string[] = [];
  /** Connections that were made to it. */
  connections = 0;

  private constructor(upstreamPort: number, tls: ProxyTls | null) {
    this.#upstreamPort = upstreamPort;
    this.#isTls = tls !== null;
    const onRequest = (incoming: IncomingMessage, answer: ServerResponse): void => {
      this.#handle(incoming, answer).catch(() => incoming.socket.destroy());
    };
    this.#server = tls === null ? createServer(onRequest) : createTlsServer(tls, onRequest);
    this.#server.on('connection', () => (this.connections += 1));
  }

  /** On any free port of loopback. */
  static async start(upstreamPort: number, tls: ProxyTls | null = null): Promise<S3Proxy> {
    const proxy = new S3Proxy(upstreamPort, tls);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject).listen(0, '127.0.0.1', () => resolve());
    });
    return proxy;
  }

  get endpoint(): string {
    return `${this.#isTls ? 'https' : 'http'}://127.0.0.1:${this.port}`;
  }

  get port(): number {
    const address: AddressInfo | string | null = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return address.port;
  }

  inject(rule: FaultRule): void {
    this.#rules.push({ ...rule, left: rule.times ?? Number.POSITIVE_INFINITY });
  }

  /** From here on everything passes; what was seen is forgotten. */
  reset(): void {
    this.#rules = [];
    this.seen.length = 0;
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #faultOf(incoming: IncomingMessage): Fault | null {
    const rule = this.#rules.find(({ method, path, left }) => left > 0 && (method ?? incoming.method) === incoming.method && (path ?? /^/u).test(incoming.url ?? ''));
    if (rule === undefined) return null;
    rule.left -= 1;
    return rule.fault;
  }

  async #handle(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    this.seen.push(`${incoming.method} ${incoming.url}`);
    const fault = this.#faultOf(incoming);
    const body = await readAll(incoming);
    if (fault?.kind === 'hang') return;
    if (fault?.kind === 'answer') return answerByItself(answer, fault.status, 'application/xml', `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>by the proxy</Message></Error>`);
    if (fault?.kind === 'web-page') return answerByItself(answer, fault.status, 'text/html', '<!doctype html><title>Welcome</title><p>This is a web page & no store.<br>');
    if (fault?.kind === 'delay') await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    if (fault?.kind === 'flip-request') flip(body, fault.at);
    if (fault?.kind === 'cut-request') {
      await this.#forwardPart(incoming, body.subarray(0, fault.bytes));
      incoming.socket.destroy();
      return;
    }
    const upstream = await this.#forward(incoming, body);
    if (fault?.kind === 'lose-answer') {
      if (!fault.silently) incoming.socket.destroy();
      return;
    }
    passOn(upstream, answer, fault);
  }

  #forward(incoming: IncomingMessage, body: Buffer): Promise<Whole> {
    return new Promise((resolve, reject) => {
      const upstream = sendRequest({ ...this.#target(incoming), agent: this.#agent }, (response) => {
        readAll(response).then((bytes) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes }), reject);
      });
      upstream.on('error', reject);
      upstream.end(body);
    });
  }

  /** Sends the head and a part of the body; then the connection breaks. */
  #forwardPart(incoming: IncomingMessage, part: Buffer): Promise<void> {
    return new Promise((resolve) => {
      const upstream = sendRequest({ ...this.#target(incoming), agent: false });
      upstream.on('error', () => resolve());
      upstream.on('close', () => resolve());
      upstream.write(part, () => setTimeout(() => upstream.destroy(), 20));
    });
  }

  #target(incoming: IncomingMessage): { host: string; port: number; method: string; path: string; headers: IncomingHttpHeaders } {
    return { host: '127.0.0.1', port: this.#upstreamPort, method: incoming.method ?? 'GET', path: incoming.url ?? '/', headers: incoming.headers };
  }
}

interface Whole {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

async function readAll(stream: AsyncIterable<unknown>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) if (part instanceof Uint8Array) parts.push(part);
  return Buffer.concat(parts);
}

function flip(body: Buffer, at: number): void {
  if (at < body.length) body[at] = (body[at] ?? 0) ^ 1;
}

function answerByItself(answer: ServerResponse, status: number, type: string, text: string): void {
  answer.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  answer.end(text);
}

function passOn(upstream: Whole, answer: ServerResponse, fault: Fault | null): void {
  let { body, status } = upstream;
  const headers: Record<string, string | string[] | undefined> = { ...upstream.headers };
  delete headers.connection;
  delete headers['transfer-encoding'];
  if (status !== 204) headers['content-length'] = String(body.length);
  if (fault?.kind === 'flip-answer') flip(body, fault.at);
  if (fault?.kind === 'resize-answer') {
    body = fault.bytes < 0 ? body.subarray(0, Math.max(0, body.length + fault.bytes)) : Buffer.concat([body, Buffer.alloc(fault.bytes)]);
    headers['content-length'] = String(body.length);
  }
  if (fault?.kind === 'change-answer') {
    status = fault.status ?? status;
    for (const [name, value] of Object.entries(fault.headers)) {
      if (value === null) delete headers[name];
      else headers[name] = value;
    }
  }
  answer.writeHead(status, headers);
  if (fault?.kind !== 'cut-answer') return void answer.end(body);
  answer.write(body.subarray(0, fault.bytes), () => setTimeout(() => answer.destroy(), 20));
}
