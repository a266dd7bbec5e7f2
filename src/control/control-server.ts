/**
 * The control API: HTTP/1.1 and JSON on a unix socket in the directory of the volumes, for its owner alone; over TCP, too, if it is told so, for who shows a token. It answers a few
 * requests at a time and never holds up the data path: what it asks the engine is looked up in memory, or read by the thread pool
 * one call after another.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { SerialQueue, WaitList } from '../base/async.ts';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import type { ControlSettings } from '../config/settings.ts';
import type { Logger } from '../env/env.ts';
import { ApiError, answerOf, type ErrorAnswer } from './api-error.ts';
import { streamEvents } from './events.ts';
import { LineAnswer } from './line-answer.ts';
import { findRoute, type Call, type ControlTargets, type LongRoute } from './routes.ts';
import type { ControlSocket } from './socket-file.ts';
import type { ControlToken } from './token.ts';

/** Longest request line and headers together. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Looks at slow requests in the time after which one is dropped. */
const CHECKS_PER_TIMEOUT = 4;
/** While stopping: how long answers have to reach their clients. */
const LINGER_MS = 2000;

export interface ControlServerOptions {
  /** Where it listens; closed with it. */
  readonly socket: ControlSocket;
  readonly targets: ControlTargets;
  readonly settings: ControlSettings;
  readonly logger: Logger;
  /** Where else it listens, and what who comes there must show; null: nowhere. */
  readonly tcp?: { readonly host: string; readonly port: number; readonly token: ControlToken } | null;
}

/** A whole answer. */
interface Reply {
  readonly status: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

function jsonReply(status: number, body: unknown, headers: Reply['headers'] = {}): Reply {
  return { status, contentType: 'application/json', headers, text: `${JSON.stringify(body, null, 2)}\n` };
}

export class ControlServer {
  readonly #options: ControlServerOptions;
  /** On the socket; and over TCP, if it listens there. */
  readonly #servers: readonly Server[];
  /** Requests that only look: one at a time, so that a poller cannot flood the thread pool. */
  readonly #looks = new SerialQueue();
  readonly #ended = new WaitList();
  /** What ends the requests that take their time. */
  readonly #long = new Set<AbortController>();
  /** Connections of who showed no token: each ends with that answer, or at once where more was sent on it. */
  readonly #refused = new WeakSet<Duplex>();
  #inWork = 0;

  private constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#servers = [this.#makeServer(null), ...(options.tcp ? [this.#makeServer(options.tcp.token)] : [])];
  }

  /** `token`: what each request must show. */
  #makeServer(token: ControlToken | null): Server {
    const { maxConnections, timeoutMs } = this.#options.settings;
    const http = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      requestTimeout: timeoutMs,
      headersTimeout: timeoutMs,
      keepAliveTimeout: timeoutMs,
      connectionsCheckingInterval: Math.ceil(timeoutMs / CHECKS_PER_TIMEOUT),
    });
    http.maxConnections = maxConnections;
    http.on('connection', (socket) => socket.setMaxListeners(0)); // one for each request that is in work
    http.on('request', (request, response) => void this.#serve(request, response, token));
    http.on('clientError', (error, socket) => refuse(error, socket));
    http.on('error', (error) => this.#options.logger.log('error', 'control-failed', { error }));
    return http;
  }

  /** Listens. Rejects with `already-exists` or `io-error`; then the directory is free for others. */
  static async start(options: ControlServerOptions): Promise<ControlServer> {
    const server = new ControlServer(options);
    try {
      const [onSocket, onTcp] = server.#servers;
      if (options.tcp) await listenOnTcp(onTcp, options.tcp);
      await options.socket.listen(onSocket);
    } catch (error) {
      for (const http of server.#servers) http.close();
      await options.socket.release();
      throw error;
    }
    return server;
  }

  /** Takes no more requests, finishes those in work, removes the socket and leaves the directory to others. */
  async stop(): Promise<void> {
    await this.#options.socket.remove();
    for (const http of this.#servers) {
      http.close();
      http.closeIdleConnections();
    }
    for (const stop of this.#long) stop.abort();
    // One that does not take its answer does not hold up the end.
    const closeAll = (): void => this.#servers.forEach((http) => http.closeAllConnections());
    const deadline = setTimeout(closeAll, LINGER_MS);
    while (this.#inWork > 0) await this.#ended.wait();
    clearTimeout(deadline);
    closeAll();
    await this.#options.socket.release();
  }

  /** The port that it listens at over TCP; null: it does not. */
  get port(): number | null {
    const address = this.#servers.at(1)?.address();
    return typeof address === 'object' && address !== null ? address.port : null;
  }

  async #serve(request: IncomingMessage, response: ServerResponse, token: ControlToken | null): Promise<void> {
    if (this.#refused.has(request.socket)) {
      request.socket.destroy();
      return;
    }
    // A client that goes away in the middle of an answer is no failure of ours.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    endWithConnection(request, response);
    this.#inWork += 1;
    try {
      const answer = await this.#answer(request, response, token);
      if (answer === null) return;
      const { status, contentType, headers, text } = answer;
      // What is left of a body that nobody wants is thrown away, and the connection ends with the answer.
      const isWhole = request.complete;
      if (!isWhole) request.resume();
      // Who shows no token gets one answer: many that are not taken would keep others out.
      const isLast = !isWhole || status === 401;
      response.writeHead(status, { ...headers, 'content-type': contentType, 'content-length': Buffer.byteLength(text), ...(isLast ? { connection: 'close' } : {}) });
      response.end(text);
      if (!response.destroyed) await new Promise((resolve) => response.once('close', resolve));
    } finally {
      this.#inWork -= 1;
      this.#ended.wake();
    }
  }

  /** Null: it was answered already, in lines. */
  async #answer(request: IncomingMessage, response: ServerResponse, token: ControlToken | null): Promise<Reply | null> {
    const { targets, settings } = this.#options;
    try {
      this.#checkToken(request, token);
      if (this.#inWork > settings.maxConnections) throw new VolumeError('limit', `${settings.maxConnections} requests are in work (control.max_connections); try again`);
      const { route, name } = findRoute(request.method ?? '', request.url ?? '');
      const text = await readBody(request, settings.maxBodyBytes);
      const body = route.method === 'GET' || route.method === 'DELETE' ? withoutBody(text, route.method) : parseJson(text);
      if ('streamsEvents' in route) return await this.#answerWithEvents(response);
      if ('runLong' in route) return await this.#answerInLines(route, { targets, name, body }, response);
      const call = { targets, name, body };
      if ('runText' in route) return { status: 200, contentType: route.contentType, headers: {}, text: await this.#looks.run(() => route.runText(call)) };
      const run = (): Promise<unknown> => route.run(call);
      return jsonReply(route.status ?? 200, await (route.method === 'GET' ? this.#looks.run(run) : run()));
    } catch (error) {
      const answer = answerOf(error);
      if (answer.status >= 500) this.#options.logger.log('warn', 'control-request-failed', { method: request.method, url: request.url, error });
      return jsonReply(answer.status, answer.body, answer.headers);
    }
  }

  #checkToken({ headers, socket }: IncomingMessage, token: ControlToken | null): void {
    try {
      token?.check(headers.authorization);
    } catch (error) {
      this.#refused.add(socket);
      throw error;
    }
  }

  /** Ends when its client goes away, or the server. */
  async #answerWithEvents(response: ServerResponse): Promise<null> {
    const stop = new AbortController();
    this.#long.add(stop);
    await streamEvents(this.#options.targets.events, response, stop.signal);
    this.#long.delete(stop);
    return null;
  }

  /** Ends early when its client goes away, or the server. Rejects as long as no line was sent. */
  async #answerInLines(route: LongRoute, call: Call, response: ServerResponse): Promise<null> {
    const lines = new LineAnswer(response);
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    response.once('close', abort);
    this.#long.add(stop);
    try {
      await lines.end({ report: await route.runLong(call, lines.progress, stop.signal) });
    } catch (error) {
      if (!lines.hasBegun) throw error;
      const { status, body } = answerOf(error);
      if (status >= 500 && !stop.signal.aborted) this.#options.logger.log('warn', 'control-request-failed', { method: route.method, url: route.path, error });
      await lines.end(body);
    } finally {
      this.#long.delete(stop);
      response.off('close', abort);
    }
    return null;
  }
}

function listenOnTcp(http: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => reject(toVolumeError(error, `listening on ${host} port ${port} for the control API (control.listen)`));
    http.once('error', failed);
    http.listen({ host, port }, () => {
      http.off('error', failed);
      resolve();
    });
  });
}

/** Closes an answer with its connection. Node does so only for the one that is being sent, and not for those that wait behind it. */
function endWithConnection({ socket }: IncomingMessage, response: ServerResponse): void {
  const end = (): void => {
    if (response.socket !== null) return;
    response.destroy();
    response.emit('close');
  };
  socket.once('close', end);
  response.once('close', () => socket.off('close', end));
}

/** The body as text. Throws `too-long`, `bad-request`, `bad-json`. */
async function readBody(request: IncomingMessage, maxBytes: number): Promise<string> {
  const tooLong = new ApiError(413, 'too-long', `the body is longer than ${maxBytes} bytes (control.max_body_bytes)`);
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLong;
  const parts: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    let length = 0;
    request.on('data', (part: Buffer) => {
      length += part.length;
      if (length <= maxBytes) parts.push(part);
      else reject(tooLong);
    });
    request.on('end', resolve);
    request.on('close', () => reject(new ApiError(400, 'bad-request', 'the body did not arrive whole')));
  });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
  } catch {
    throw new ApiError(400, 'bad-json', 'the body is not UTF-8');
  }
}

function withoutBody(text: string, method: string): null {
  if (text !== '') throw new ApiError(400, 'bad-request', `a ${method} has no body`);
  return null;
}

function parseJson(text: string): unknown {
  if (text.trim() === '') throw new ApiError(400, 'bad-json', 'the body is empty; a JSON object is needed');
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch (error) {
    throw new ApiError(400, 'bad-json', `the body is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const STATUS_TEXT: Readonly<Record<number, string>> = { 400: 'Bad Request', 408: 'Request Timeout', 431: 'Request Header Fields Too Large' };

/** Answers what is no HTTP request, or came too slowly or too long, and hangs up. */
function refuse(error: Error, socket: Duplex): void {
  if (!socket.writable || systemCode(error) === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const { status, body } = protocolAnswer(error);
  const text = `${JSON.stringify(body, null, 2)}\n`;
  socket.end(`HTTP/1.1 ${status} ${STATUS_TEXT[status]}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`);
}

function protocolAnswer(error: Error): ErrorAnswer {
  const code = systemCode(error);
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return answerOf(new ApiError(408, 'too-slow', 'the request did not arrive in time (control.timeout_ms)'));
  if (code === 'HPE_HEADER_OVERFLOW') return answerOf(new ApiError(431, 'too-long', `request line and headers are longer than ${MAX_HEADER_BYTES} bytes`));
  return answerOf(new ApiError(400, 'bad-request', `this is no HTTP/1.1 request: ${error.message}`));
}
