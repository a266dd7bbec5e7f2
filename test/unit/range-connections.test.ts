/** The connections that ranges are read over: how many, for whom, in which order, and what is left of them after each kind of failure. */
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RangeConnections } from '../../src/store/range-connections.ts';
import { RawStore, answerOf, keepers, settled, turns, until } from '../support/raw-store.ts';

const BODY = Buffer.from('a body');
const LIMIT = 3;
const NEVER = new AbortController().signal;

interface Held {
  readonly socket: Socket;
  readonly name: string;
}

let server: RawStore;
let pool: RangeConnections;
let counters: { gets: number; receivedBytes: number };
/** Requests that have not been answered, in the order in which they came. */
let held: Held[];

const nameOf = (request: string): string => /^GET \/(\S+)/u.exec(request)?.[1] ?? '';
const names = (): readonly string[] => server.requests.map(nameOf);

beforeEach(async () => {
  held = [];
  counters = { gets: 0, receivedBytes: 0 };
  server = await RawStore.listen((socket, request) => void held.push({ socket, name: nameOf(request) }));
  pool = poolOf(server.port);
});
afterEach(async () => {
  pool.close();
  await until(() => server.open.size === 0); // none is leaked
  await server.close();
});

function poolOf(port: number): RangeConnections {
  return new RangeConnections({ host: '127.0.0.1', port, tls: null, connectTimeoutMs: 5000 }, LIMIT, counters);
}

async function read(name: string, signal: AbortSignal = NEVER): Promise<string> {
  const target = Buffer.alloc(BODY.length);
  await pool.ask(`GET /${name} HTTP/1.1\r\nhost: store\r\n\r\n`, () => target, signal);
  return target.toString();
}

const SOUND = 'a body';
const outcomeOf = (reading: Promise<string>): Promise<string> =>
  reading.catch((error: unknown) => (error instanceof Error ? `${'code' in error ? String(error.code) : ''} ${error.message}`.trim() : String(error)));

function answerAll(): void {
  for (const { socket } of held.splice(0)) socket.write(answerOf(BODY));
}

const refuse = (): never => {
  throw new Error('not this one');
};

const answerAtOnce = (socket: Socket): void => void socket.write(answerOf(BODY));

/** Leaves as many connections resting as there may be. */
async function fillPool(): Promise<void> {
  const readings = Array.from({ length: LIMIT }, (_, index) => read(`fill-${index}`));
  await until(() => held.length === LIMIT);
  answerAll();
  await Promise.all(readings);
}

/** That so many requests, and no more, run at once: no connection and no turn has been lost. */
async function expectWhole(): Promise<void> {
  const { answer } = server;
  held = [];
  server.answer = (socket, request) => void held.push({ socket, name: nameOf(request) });
  const readings = Array.from({ length: LIMIT + 2 }, (_, index) => read(`whole-${index}`));
  await until(() => held.length === LIMIT);
  await settled();
  expect([held.length, server.open.size]).toEqual([LIMIT, LIMIT]);
  answerAll();
  await until(() => held.length === 2);
  answerAll();
  expect(await Promise.all(readings)).toEqual(readings.map(() => SOUND));
  server.answer = answer;
}

describe('connections', () => {
  test('are as many as are needed, and no more than the limit; who waits is served in the order of coming', async () => {
    const readings = Array.from({ length: 8 }, (_, index) => read(`${index}`));
    const done: number[] = [];
    for (const [index, reading] of readings.entries()) void reading.then(() => done.push(index));
    for (let answered = 0; answered < readings.length; answered += 1) {
      await until(() => held.length === Math.min(LIMIT, readings.length - answered));
      await settled();
      expect([held.length, server.connectionCount]).toEqual([Math.min(LIMIT, readings.length - answered), LIMIT]);
      held.shift()?.socket.write(answerOf(BODY));
      await until(() => done.length === answered + 1);
    }
    expect(names().slice(LIMIT)).toEqual(['3', '4', '5', '6', '7']);
    expect(done.slice(LIMIT)).toEqual([3, 4, 5, 6, 7]);
    expect(counters).toEqual({ gets: 8, receivedBytes: 8 * BODY.length });
  });

  test('are used again, the last one first', async () => {
    server.answer = answerAtOnce;
    for (let index = 0; index < 5; index += 1) await read(`${index}`);
    expect(server.connectionCount).toBe(1);
    await expectWhole();
    const used = new Set<Socket>();
    server.answer = (socket) => {
      used.add(socket);
      answerAtOnce(socket);
    };
    for (let index = 0; index < 5; index += 1) await read(`${index}`);
    expect(used.size).toBe(1);
  });

  test('that rest let the process end', async () => {
    const before = keepers();
    await fillPool();
    await settled();
    expect([server.open.size, keepers()]).toEqual([LIMIT, before]);
    const reading = read('busy');
    await until(() => held.length === 1);
    expect(keepers()).toBe(before + 1);
    answerAll();
    await reading;
  });
});

describe('who waits', () => {
  test('and leaves is not served, and keeps nobody behind', async () => {
    const running = Array.from({ length: LIMIT }, (_, index) => read(`running-${index}`));
    const leaving = new AbortController();
    const left = [read('left-0', leaving.signal), read('left-1', leaving.signal)];
    const stays = read('stays');
    await until(() => held.length === LIMIT);
    leaving.abort(new Error('the caller left'));
    for (const reading of left) await expect(reading).rejects.toThrow('the caller left');
    answerAll();
    await until(() => held.length === 1);
    answerAll();
    expect(await Promise.all([...running, stays])).toEqual(Array.from({ length: LIMIT + 1 }, () => SOUND));
    expect([names().at(-1), server.requests.length, counters.gets]).toEqual(['stays', LIMIT + 1, LIMIT + 1]);
    await expectWhole();
  });

  test('and leaves in the turn in which it is served gives its turn on, and no connection is left that keeps the process', async () => {
    const before = keepers();
    for (const next of ['another', null]) {
      const ending = new AbortController();
      const running = Array.from({ length: LIMIT }, () => pool.ask('GET /running HTTP/1.1\r\n\r\n', () => Buffer.alloc(BODY.length), ending.signal));
      const leaving = new AbortController();
      const left = read('left', leaving.signal);
      const follower = next === null ? null : read(next);
      await until(() => held.length === LIMIT);
      held = [];
      ending.abort(new Error('ended')); // each of them makes room by a new connection
      // Just when `left` has been given the first one, and has not gone on yet.
      for (const asking of running) void asking.catch(() => leaving.abort(new Error('the caller left')));
      await expect(left).rejects.toThrow('the caller left');
      if (follower !== null) {
        await until(() => held.length === 1);
        answerAll();
      }
      expect(await follower).toBe(follower === null ? null : SOUND);
      await until(() => server.open.size === (follower === null ? 0 : 1));
      expect(keepers()).toBe(before);
      pool.close();
      pool = poolOf(server.port);
    }
    expect(names()).not.toContain('left');
    expect(counters.gets).toBe(server.requests.length);
    await expectWhole();
  });

  test('is not there any more when it comes', async () => {
    const signal = AbortSignal.abort(new Error('gone before'));
    await expect(read('gone', signal)).rejects.toThrow('gone before');
    expect(counters.gets).toBe(0);
    await settled();
    expect(server.connectionCount).toBe(0);
  });
});

describe('no connection and no turn is lost after', () => {
  const badAnswers: [string, (socket: Socket) => void, RegExp][] = [
    ['garbage', (socket) => void socket.write('garbage'), /^HPE_INVALID_CONSTANT/u],
    ['a head that is too long', (socket) => void socket.write(`HTTP/1.1 206 OK\r\nx: ${'y'.repeat(20_000)}`), /^HPE_HEADER_OVERFLOW/u],
    ['half an answer', (socket) => void socket.end(answerOf(BODY).subarray(0, -2)), /^ECONNRESET/u],
    ['an end', (socket) => void socket.end(), /^ECONNRESET/u],
    ['a reset', (socket) => void socket.resetAndDestroy(), /^ECONNRESET/u],
    ['`Connection: close`', (socket) => void socket.write(answerOf(BODY, { headers: ['Connection: close'] })), /^a body$/u],
    ['bytes behind the answer', (socket) => void socket.write(answerOf(BODY), () => socket.write('more')), /^(?:a body$|HPE_CLOSED_CONNECTION)/u],
  ];

  test.each(badAnswers)('%s', async (_what, answer, outcome) => {
    const before = keepers();
    server.answer = answer;
    const readings = Array.from({ length: 2 * LIMIT }, (_, index) => outcomeOf(read(`${index}`)));
    for (const got of await Promise.all(readings)) expect(got).toMatch(outcome);
    await until(() => server.open.size === 0);
    expect(keepers()).toBe(before);
    await expectWhole();
  });

  test('calls that were ended, at each time', async () => {
    for (const wait of [() => Promise.resolve(), () => until(() => held.length === LIMIT), () => settled()]) {
      const ending = new AbortController();
      const readings = Array.from({ length: 2 * LIMIT }, (_, index) => outcomeOf(read(`${index}`, ending.signal)));
      await wait();
      ending.abort(new Error('ended'));
      expect(await Promise.all(readings)).toEqual(readings.map(() => 'ended'));
      await until(() => server.open.size === 0);
      held = [];
      await expectWhole();
    }
  });

  test('heads that were refused', async () => {
    server.answer = answerAtOnce;
    const asking = Array.from({ length: 2 * LIMIT }, () => pool.ask('GET /x HTTP/1.1\r\n\r\n', refuse, NEVER));
    for (const result of await Promise.allSettled(asking)) expect(result).toMatchObject({ status: 'rejected', reason: { message: 'not this one' } });
    expect(server.requests).toHaveLength(2 * LIMIT);
    await expectWhole();
  });

  test('a time in which nobody listened', async () => {
    const { port } = server;
    await server.close();
    const readings = Array.from({ length: 2 * LIMIT }, (_, index) => outcomeOf(read(`${index}`)));
    for (const outcome of await Promise.all(readings)) expect(outcome).toMatch(/^ECONNREFUSED/u);
    server = await RawStore.listen((socket, request) => void held.push({ socket, name: nameOf(request) }), { port });
    await expectWhole();
  });
});

describe('a server that closes what rests', () => {
  test('is asked again over another connection, and each request that was sent is counted', async () => {
    await fillPool();
    counters.gets = 0;
    server.requests.length = 0;
    for (const socket of server.open) socket.end();
    server.answer = answerAtOnce;
    expect(await read('again')).toBe(SOUND); // asked before their ends have come here
    expect(server.connectionCount).toBe(LIMIT + 1);
    expect(counters.gets).toBeGreaterThan(1);
    await expectWhole();
  });

  test('does not keep who asks just as the end has come here', async () => {
    await fillPool();
    for (const socket of server.open) socket.end();
    server.answer = answerAtOnce;
    // In each of the turns in which the ends come here and the sockets are closed.
    for (let turn = 0; turn < 8; turn += 1) {
      const readings = Array.from({ length: LIMIT }, (_, index) => read(`${turn}-${index}`));
      expect(await Promise.all(readings)).toEqual(readings.map(() => SOUND));
      for (const socket of server.open) socket.end();
      await turns(turn);
    }
    await expectWhole();
  });

  test('is not asked again by who has heard something of an answer', async () => {
    await fillPool();
    server.answer = (socket) => void socket.end('H');
    await expect(read('heard')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(names().filter((name) => name === 'heard')).toHaveLength(1);
  });

  test('is not asked again over a new connection', async () => {
    server.answer = (socket) => void socket.end();
    await expect(read('new')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect([names(), counters.gets]).toEqual([['new'], 1]);
  });

  test('is not asked again by who has left', async () => {
    await fillPool();
    const leaving = new AbortController();
    const reading = read('left', leaving.signal);
    await until(() => held.length === 1);
    leaving.abort(new Error('the caller left'));
    await expect(reading).rejects.toThrow('the caller left');
    expect(names().filter((name) => name === 'left')).toHaveLength(1);
    held = [];
    await expectWhole();
  });
});

const PATTERN = 0xa5;
/** What stands at a name: others than at each other one. */
const bytesOf = (name: string): Buffer => Buffer.alloc(1 + (Math.imul(Number(name) + 1, 40_503) % 150_000), `${name}, `);

/** Numbers below a limit, the same ones for a seed. */
function numbersOf(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

describe('in any order of all that', () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])('each gets what it has asked for or an error, nobody is written to later, and nothing is lost (seed %i)', async (seed) => {
    const draw = numbersOf(seed);
    server.answer = (socket, request) => {
      const answer = answerOf(bytesOf(nameOf(request)));
      const way = draw(12);
      if (way === 0) socket.end();
      else if (way === 1) socket.resetAndDestroy();
      else if (way === 2) socket.end(answer.subarray(0, draw(answer.length)));
      else if (way === 3) socket.write('garbage');
      else if (way === 4) socket.end(answer);
      else if (way === 5) socket.write(answerOf(bytesOf(nameOf(request)), { headers: ['Connection: close'] }));
      else if (way > 6) {
        const split = draw(answer.length);
        socket.write(answer.subarray(0, split));
        void turns(draw(5)).then(() => socket.write(answer.subarray(split)));
      } // or it says nothing
    };
    const outcomes = { read: 0, ended: 0, failed: 0 };
    const left: Buffer[] = [];
    const one = async (name: string): Promise<void> => {
      const ending = new AbortController();
      const target = Buffer.alloc(bytesOf(name).length, PATTERN);
      const asking = pool.ask(`GET /${name} HTTP/1.1\r\nhost: store\r\n\r\n`, () => target, ending.signal);
      void turns(5 + draw(60)).then(() => ending.abort());
      try {
        await asking;
        outcomes.read += 1;
        expect(target.equals(bytesOf(name))).toBe(true);
      } catch (error) {
        if (!(error instanceof Error && ('code' in error || error.name === 'AbortError'))) throw error;
        outcomes[ending.signal.aborted ? 'ended' : 'failed'] += 1;
        left.push(target.fill(PATTERN));
      }
    };
    for (let round = 0; round < 40; round += 1) {
      const asking = Array.from({ length: 1 + draw(6) }, (_, index) => one(`${round * 10 + index}`));
      await Promise.all(asking);
      expect(server.open.size).toBeLessThanOrEqual(LIMIT + 6); // those whose end has not come there yet
    }
    await settled();
    expect(left.every((target) => target.every((byte) => byte === PATTERN))).toBe(true);
    for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(0);
    await expectWhole();
  });
});

describe('close()', () => {
  test('ends what runs, what waits and what rests, and nothing is asked any more', async () => {
    const before = keepers();
    await fillPool();
    const readings = Array.from({ length: 2 * LIMIT }, (_, index) => outcomeOf(read(`${index}`)));
    await until(() => held.length === LIMIT);
    pool.close();
    for (const outcome of await Promise.all(readings)) expect(outcome).toMatch(/^ECONN(?:RESET|ABORTED) the connections? .*closed/u);
    await until(() => server.open.size === 0);
    await settled();
    expect([server.connectionCount, server.requests.length, keepers()]).toEqual([LIMIT, 2 * LIMIT, before]);
    await expect(read('late')).rejects.toMatchObject({ code: 'ECONNABORTED' });
    pool.close();
  });
});
