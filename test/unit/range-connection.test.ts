/** One connection that ranges are read over, against a server that says what it likes: whole, by the byte, wrong, too late, never. */
import net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type AnswerHead, RangeConnection, type RangeEndpoint } from '../../src/store/range-connection.ts';
import { type Answerer, RawStore, type RawStoreOptions, answerOf, keepers, settled, turns, until } from '../support/raw-store.ts';
import { TestPki } from '../support/test-pki.ts';

const REQUEST = 'GET /bucket/key HTTP/1.1\r\nhost: store\r\n\r\n';
const BODY = Buffer.from('what is at this range');
const MIB = 1024 * 1024;
const PATTERN = 0xa5;
const KINDS = ['TCP', 'TLS'] as const;
type Kind = (typeof KINDS)[number];

let pki: TestPki;
beforeAll(async () => {
  pki = await TestPki.create();
});
afterAll(() => pki.dispose());

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

class Client {
  readonly counters = { receivedBytes: 0 };
  readonly heads: AnswerHead[] = [];
  readonly connection: RangeConnection;
  readonly #abort = new AbortController();

  constructor(endpoint: RangeEndpoint) {
    this.connection = new RangeConnection(endpoint, this.counters);
    cleanups.push(() => this.connection.close());
  }

  ask(target: Uint8Array, onHead: (head: AnswerHead) => void = () => undefined): Promise<void> {
    const take = (head: AnswerHead): Uint8Array => {
      this.heads.push(head);
      onHead(head);
      if (head.bodyBytes !== target.length) throw new Error(`a body of ${head.bodyBytes} bytes`);
      return target;
    };
    return this.connection.ask(REQUEST, take, this.#abort.signal);
  }

  async read(lengthBytes = BODY.length): Promise<Buffer> {
    const target = Buffer.alloc(lengthBytes, PATTERN);
    await this.ask(target);
    return target;
  }

  abort(): void {
    this.#abort.abort(new Error('the caller left'));
  }
}

async function listen(answer: Answerer, kind: Kind = 'TCP', options: RawStoreOptions = {}): Promise<RawStore> {
  const identity = kind === 'TLS' ? { cert: pki.server.certificate, key: pki.server.key } : null;
  const server = await RawStore.listen(answer, { identity, ...options });
  cleanups.push(() => server.close());
  return server;
}

function connect({ port }: { readonly port: number }, kind: Kind = 'TCP', endpoint: Partial<RangeEndpoint> = {}): Client {
  return new Client({ host: '127.0.0.1', port, tls: kind === 'TLS' ? { ca: pki.authority.certificate } : null, connectTimeoutMs: 5000, ...endpoint });
}

/** What a read that must fail fails with. */
async function codeOf(reading: Promise<unknown>): Promise<string> {
  const error: unknown = await reading.then(
    () => new Error('it was read'),
    (reason: unknown) => reason,
  );
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** A client of a server that sends `answer` to whatever it is asked. */
async function clientOf(answer: Buffer | string, kind: Kind = 'TCP'): Promise<Client> {
  return connect(await listen((socket) => socket.write(answer), kind), kind);
}

describe.each(KINDS)('over %s', (kind) => {
  test('bodies land in the memory that they are for, one after another', async () => {
    const server = await listen((socket, _request, index) => socket.write(answerOf(`body ${index}`)), kind);
    const client = connect(server, kind);
    expect(client.connection.wasUsed).toBe(false);
    for (let index = 0; index < 3; index += 1) expect((await client.read(6)).toString()).toBe(`body ${index}`);
    expect(server.requests).toEqual([REQUEST.slice(0, -4), REQUEST.slice(0, -4), REQUEST.slice(0, -4)]);
    expect([server.connectionCount, client.connection.wasUsed, client.counters.receivedBytes]).toEqual([1, true, 18]);
  });

  test('a body of many megabytes is the same to its last byte, and nothing is written beside it', async () => {
    const body = Buffer.alloc(5 * MIB + 17);
    for (let at = 0; at + 4 <= body.length; at += 4) body.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
    const client = await clientOf(answerOf(body), kind);
    const around = Buffer.alloc(body.length + 128, PATTERN);
    for (let round = 0; round < 3; round += 1) {
      around.fill(PATTERN);
      await client.ask(around.subarray(64, 64 + body.length));
      expect(around.subarray(64, 64 + body.length).equals(body)).toBe(true);
      expect(around.subarray(0, 64).every((byte) => byte === PATTERN) && around.subarray(-64).every((byte) => byte === PATTERN)).toBe(true);
    }
    expect(client.counters.receivedBytes).toBe(3 * body.length);
  });

  test('an answer may come byte by byte, and be split anywhere', async () => {
    const answer = answerOf(BODY, { headers: ['Content-Range: bytes 0-20/21', 'x-name:  of a store ', 'X-Name:two'] });
    let split = 0;
    const server = await listen((socket) => {
      void (async () => {
        for (let at = 0; at < answer.length; ) {
          const end = split === 0 ? at + 1 : at === 0 ? split : answer.length;
          socket.write(answer.subarray(at, end));
          at = end;
          await settled();
        }
      })();
    }, kind);
    const client = connect(server, kind);
    for (split = 0; split < answer.length; split += 1) {
      expect(await client.read()).toEqual(BODY);
      const { status, headers, bodyBytes } = client.heads[split] ?? {};
      expect([status, bodyBytes, headers?.get('content-range'), headers?.get('x-name')]).toEqual([206, 21, 'bytes 0-20/21', 'of a store, two']);
    }
    expect([server.connectionCount, client.heads.length]).toEqual([1, answer.length]);
  });

  test('a call that ends behind its answer ends nothing of the next', async () => {
    const server = await listen((socket, _request, index) => (index === 0 ? socket.write(answerOf(BODY)) : undefined), kind);
    const { connection } = connect(server, kind);
    const first = new AbortController();
    await connection.ask(REQUEST, () => Buffer.alloc(BODY.length), first.signal);
    const target = Buffer.alloc(BODY.length);
    const second = connection.ask(REQUEST, () => target, new AbortController().signal);
    await until(() => server.requests.length === 2);
    first.abort();
    for (const socket of server.open) socket.write(answerOf(BODY));
    await second;
    expect(target).toEqual(BODY);
  });

  test('an answer without a body is one', async () => {
    const client = await clientOf(answerOf('', { status: '404 Not Found' }), kind);
    await client.read(0);
    await client.read(0);
    expect(client.heads.map(({ status }) => status)).toEqual([404, 404]);
  });

  test('`Connection: close` ends it behind the answer', async () => {
    const server = await listen((socket) => socket.write(answerOf(BODY, { headers: ['Connection: Close'] })), kind);
    const client = connect(server, kind);
    expect(await client.read()).toEqual(BODY);
    expect(client.connection.isClosed).toBe(true);
    await until(() => server.open.size === 0);
    await expect(client.read()).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(server.requests).toHaveLength(1);
  });

  test.each<[string, number]>([
    ['the request', 0],
    ['a part of the head', 30],
    ['the head', answerOf(BODY).length - BODY.length],
    ['a part of the body', answerOf(BODY).length - 5],
  ])('a server that closes behind %s is a broken connection', async (_what, length) => {
    const ends = ['end', 'destroy', 'reset'] as const;
    for (const end of kind === 'TCP' ? ends : ends.slice(0, 2)) { // Node resets no TLS
      const server = await listen((socket) => {
        socket.write(answerOf(BODY).subarray(0, length), () => {
          if (end === 'end') socket.end();
          else if (end === 'destroy') socket.destroy();
          else socket.resetAndDestroy();
        });
      }, kind, { allowHalfOpen: true });
      const client = connect(server, kind);
      await expect(client.read(), end).rejects.toMatchObject({ code: 'ECONNRESET' });
      expect([client.connection.isClosed, client.connection.wasUsed]).toEqual([true, false]);
      // A reset may take with it what came before.
      expect(client.connection.hasHeardNothing || length > 0).toBe(true);
      expect(end !== 'reset' && length > 0 && client.connection.hasHeardNothing).toBe(false);
      await until(() => server.open.size === 0 && client.connection.isClosed);
    }
  });

  test('bytes that nobody has asked for end a connection that rests', async () => {
    const server = await listen((socket) => socket.write(answerOf(BODY)), kind);
    const client = connect(server, kind);
    await client.read();
    for (const socket of server.open) socket.write('HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n');
    await until(() => client.connection.isClosed);
    await until(() => server.open.size === 0);
  });

  test('a server that closes a connection that rests has heard and said nothing', async () => {
    const server = await listen((socket) => socket.write(answerOf(BODY)), kind);
    const client = connect(server, kind);
    await client.read();
    for (const socket of server.open) socket.end();
    const asked = client.read(); // before its end has come here
    await expect(asked).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect([client.connection.wasUsed, client.connection.hasHeardNothing, client.heads.length]).toEqual([true, true, 1]);
  });

  test('only who waits for an answer keeps the process', async () => {
    let isSilent = false;
    const server = await listen((socket) => (isSilent ? undefined : socket.write(answerOf(BODY))), kind);
    const before = keepers();
    const client = connect(server, kind);
    const first = client.read();
    await until(() => server.requests.length === 1);
    expect(keepers()).toBe(before + 1);
    await first;
    await settled();
    expect(keepers()).toBe(before);
    isSilent = true;
    const second = client.read();
    await until(() => server.requests.length === 2);
    expect(keepers()).toBe(before + 1);
    client.abort();
    await expect(second).rejects.toThrow('the caller left');
    await until(() => keepers() === before);
  });
});

describe.each(KINDS)('after it was ended over %s nothing is written any more', (kind) => {
  /** Sends an answer of 4 MiB up to `stopAt`, and the rest when `goOn` is called. */
  async function halfway(stopAt: number): Promise<{ server: RawStore; goOn: () => void }> {
    const answer = answerOf(Buffer.alloc(4 * MIB, 1));
    const server = await listen((socket) => void socket.write(answer.subarray(0, stopAt)), kind);
    return { server, goOn: () => server.open.forEach((socket) => socket.write(answer.subarray(stopAt))) };
  }

  const HEAD_BYTES = answerOf(Buffer.alloc(4 * MIB)).length - 4 * MIB;

  test.each<[string, number, number]>([
    ['the request', 0, 0],
    ['a part of the head', 20, 0],
    ['the head', HEAD_BYTES, 0],
    ['a byte of the body', HEAD_BYTES + 1, 1],
    ['half of the body', HEAD_BYTES + 2 * MIB, 2 * MIB],
    ['all but a byte', HEAD_BYTES + 4 * MIB - 1, 4 * MIB - 1],
  ])('behind %s', async (_what, stopAt, bodyBytes) => {
    for (const how of ['abort', 'close'] as const) {
      const { server, goOn } = await halfway(stopAt);
      const client = connect(server, kind);
      const target = Buffer.alloc(4 * MIB, PATTERN);
      const asked = client.ask(target);
      await until(() => server.requests.length === 1 && client.counters.receivedBytes === bodyBytes);
      await settled();
      if (how === 'abort') client.abort();
      else client.connection.close();
      target.fill(PATTERN); // it is the caller's at once
      goOn();
      await expect(asked).rejects.toThrow(how === 'abort' ? 'the caller left' : 'the connection was closed');
      await until(() => server.open.size === 0 && client.connection.isClosed);
      await settled();
      expect(target.every((byte) => byte === PATTERN)).toBe(true);
      expect(client.counters.receivedBytes).toBe(bodyBytes);
    }
  });

  test('in the middle of a stream, at any time', async () => {
    const { server } = await halfway(HEAD_BYTES + 4 * MIB);
    for (let wait = 0; wait < 40; wait += 1) {
      const client = connect(server, kind);
      const target = Buffer.alloc(4 * MIB, PATTERN);
      const outcome = client.ask(target).then(
        () => 'done',
        (error: unknown) => String(error),
      );
      await turns(wait);
      client.abort();
      const { receivedBytes } = client.counters;
      target.fill(PATTERN);
      expect(await outcome).toBe(receivedBytes === target.length ? 'done' : 'Error: the caller left');
      client.connection.close();
      await until(() => client.connection.isClosed && server.open.size === 0);
      expect(target.every((byte) => byte === PATTERN)).toBe(true);
    }
  });

  test('as the head is looked at, and when the head is not wanted', async () => {
    for (const how of ['abort', 'throw'] as const) {
      const { server } = await halfway(HEAD_BYTES + 4 * MIB);
      const client = connect(server, kind);
      const target = Buffer.alloc(4 * MIB, PATTERN);
      const asked = client.ask(target, () => {
        if (how === 'throw') throw new Error('not this one');
        client.abort();
      });
      await expect(asked).rejects.toThrow(how === 'throw' ? 'not this one' : 'the caller left');
      await until(() => server.open.size === 0 && client.connection.isClosed);
      expect(target.every((byte) => byte === PATTERN)).toBe(true);
      expect(client.counters.receivedBytes).toBe(0);
    }
  });

  test('before it is connected, and before it is asked', async () => {
    const { server } = await halfway(0);
    const client = connect(server, kind);
    const asked = client.read();
    client.abort();
    await expect(asked).rejects.toThrow('the caller left');
    const late = connect(server, kind);
    late.abort();
    await expect(late.read()).rejects.toThrow('the caller left');
    late.connection.close();
    await until(() => client.connection.isClosed && late.connection.isClosed && server.open.size === 0);
    expect(server.requests).toEqual([]);
  });
});

describe('what is no plain answer', () => {
  test.each([
    ['no Content-Length', 'HTTP/1.1 206 Partial Content\r\nx: y\r\n\r\n'],
    ['two of them', 'HTTP/1.1 206 Partial Content\r\nContent-Length: 21\r\nContent-Length: 21\r\n\r\n'],
    ['a length that is no number', 'HTTP/1.1 206 Partial Content\r\nContent-Length: +21\r\n\r\n'],
    ['a length that is too large for a number', 'HTTP/1.1 206 Partial Content\r\nContent-Length: 99999999999999999999\r\n\r\n'],
    ['chunks', 'HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n'],
    ['chunks with a length', 'HTTP/1.1 206 Partial Content\r\nContent-Length: 21\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n'],
    ['HTTP/1.0', 'HTTP/1.0 206 Partial Content\r\nContent-Length: 21\r\n\r\n'],
    ['100 Continue', 'HTTP/1.1 100 Continue\r\nContent-Length: 21\r\n\r\n'],
    ['204', 'HTTP/1.1 204 No Content\r\nContent-Length: 21\r\n\r\n'],
    ['304 with the length of what it does not send', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 21\r\n\r\n'],
  ])('%s: it is shown as without a length', async (_what, head) => {
    const client = await clientOf(head + BODY.toString());
    await expect(client.read()).rejects.toThrow('a body of -1 bytes');
    expect(client.heads).toHaveLength(1);
    expect(client.connection.isClosed).toBe(true);
  });

  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.2p1\r\n', 'HPE_INVALID_CONSTANT'],
    ['its first byte', '\u0015', 'HPE_INVALID_CONSTANT'],
    ['a page without a head', `<html>${' '.repeat(20_000)}`, 'HPE_INVALID_CONSTANT'],
    ['HTTP/2', 'HTTP/2 206\r\n\r\n', 'HPE_INVALID_CONSTANT'],
    ['a version that there is not', 'HTTP/1.9 206\r\n\r\n', 'HPE_INVALID_VERSION'],
    ['a status that is none', 'HTTP/1.1 20x OK\r\n\r\n', 'HPE_INVALID_VERSION'],
    ['an empty name', 'HTTP/1.1 206 OK\r\n: x\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN'],
    ['a space before the colon', 'HTTP/1.1 206 OK\r\nContent-Length : 21\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN'],
    ['a folded line', 'HTTP/1.1 206 OK\r\nContent-Length: 2\r\n 1\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN'],
    ['a lone line feed', 'HTTP/1.1 206 OK\r\nContent-Length: 21\nx: y\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN'],
    ['a head that does not end', `HTTP/1.1 206 OK\r\nx: ${'y'.repeat(17_000)}`, 'HPE_HEADER_OVERFLOW'],
    ['more than its length', answerOf(BODY).toString() + 'x', 'HPE_CLOSED_CONNECTION'],
  ])('%s: it fails, and the connection is closed', async (_what, text, code) => {
    const client = await clientOf(Buffer.from(text, 'latin1'));
    const target = Buffer.alloc(BODY.length, PATTERN);
    await expect(client.ask(target)).rejects.toMatchObject({ code });
    expect(client.connection.isClosed).toBe(true);
    expect(target.every((byte) => byte === PATTERN)).toBe(true);
  });

  test('a head of up to 16 KiB is read, with its body behind it', async () => {
    const bare = answerOf(BODY, { headers: ['x: '] }).length - BODY.length;
    for (const headBytes of [16_383, 16_384]) expect(await (await clientOf(answerOf(BODY, { headers: [`x: ${'y'.repeat(headBytes - bare)}`] }))).read()).toEqual(BODY);
    const longer = await clientOf(answerOf(BODY, { headers: [`x: ${'y'.repeat(16_385 - bare)}`] }));
    await expect(longer.read()).rejects.toMatchObject({ code: 'HPE_HEADER_OVERFLOW' });
  });

  test('more than the length, later: the answer is good, and the connection is not', async () => {
    const server = await listen((socket) => {
      socket.write(answerOf(BODY).subarray(0, -1));
      void settled().then(() => socket.write(`${BODY.toString().slice(-1)}and more`));
    });
    const client = connect(server);
    expect(await client.read()).toEqual(BODY);
    await until(() => client.connection.isClosed);
  });

  test('what stands behind an answer is not taken for the next: that is tried again, not given up', async () => {
    const server = await listen((socket, _request, index) => socket.write(index === 0 ? answerOf(BODY) : 'and more'));
    const client = connect(server);
    await client.read();
    await expect(client.read()).rejects.toMatchObject({ code: 'HPE_CLOSED_CONNECTION' });
  });
});

describe('who is not there', () => {
  test('nobody listens', async () => {
    const server = await listen(() => undefined);
    const { port } = server;
    await server.close();
    for (const host of ['127.0.0.1', 'localhost', '::1']) {
      const client = connect({ port }, 'TCP', { host });
      await expect(client.read(), host).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      await until(() => client.connection.isClosed);
    }
  });

  test('a name that there is not', async () => {
    const client = connect({ port: 9 }, 'TCP', { host: 'nobody.invalid' });
    expect(await codeOf(client.read())).toMatch(/^(?:ENOTFOUND|EAI_AGAIN)$/u);
  });

  test.each(KINDS)('a name is reached over %s', async (kind) => {
    const server = await listen((socket) => socket.write(answerOf(BODY)), kind);
    expect(await connect(server, kind, { host: 'localhost' }).read()).toEqual(BODY);
  });

  // Not over TLS: Node 22.23 takes an address of IPv6 for a name when it looks at a certificate.
  test('an address of IPv6 is reached', async () => {
    const server = await listen((socket) => socket.write(answerOf(BODY)), 'TCP', { host: '::1' });
    expect(await connect(server, 'TCP', { host: '::1' }).read()).toEqual(BODY);
  });

  test('who takes connections and says nothing of TLS is left when its time is over', async () => {
    const server = net.createServer(() => undefined);
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => server.close());
    const address = server.address();
    const client = connect({ port: typeof address === 'object' && address !== null ? address.port : 0 }, 'TLS', { connectTimeoutMs: 50 });
    await expect(client.read()).rejects.toMatchObject({ code: 'ETIMEDOUT', message: 'no connection within 50 ms' });
    await until(() => client.connection.isClosed);
  });

  test.each(KINDS)('the time to connect says nothing of the time to answer, over %s', async (kind) => {
    const server = await listen((socket) => void setTimeout(() => socket.write(answerOf(BODY)), 1300), kind);
    expect(await connect(server, kind, { connectTimeoutMs: 1000 }).read()).toEqual(BODY);
  });
});

async function identityOf(name: string): Promise<RawStoreOptions> {
  const { certificate, key } = await pki.issue({ name, purpose: 'server', altNames: [name] });
  return { identity: { cert: certificate, key } };
}

describe('TLS', () => {
  test('where HTTP is spoken, and HTTP where TLS is', async () => {
    expect(await codeOf(connect(await listen(() => undefined, 'TLS')).read())).toMatch(/^(?:HPE_INVALID_CONSTANT|ECONNRESET)$/u);
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'));
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => server.close());
    const address = server.address();
    const client = connect({ port: typeof address === 'object' && address !== null ? address.port : 0 }, 'TLS');
    expect(await codeOf(client.read())).toMatch(/^(?:EPROTO|ERR_SSL_WRONG_VERSION_NUMBER)$/u);
  });

  test('a server that is not trusted, or is another, sees no request', async () => {
    const server = await listen((socket) => socket.write(answerOf(BODY)), 'TLS');
    expect(await codeOf(connect(server, 'TLS', { tls: { ca: null } }).read())).toMatch(/SELF_SIGNED_CERT|UNABLE_TO/u);
    const other = await listen((socket) => socket.write(answerOf(BODY)), 'TLS', await identityOf('store.example'));
    for (const host of ['127.0.0.1', 'localhost']) await expect(connect(other, 'TLS', { host }).read()).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
    await until(() => server.open.size === 0 && other.open.size === 0);
    await settled();
    expect([server.requests, other.requests]).toEqual([[], []]);
  });
});
