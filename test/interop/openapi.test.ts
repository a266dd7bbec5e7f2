/** The running server answers as `openapi.json` says, operation by operation, and refuses what that does not allow. */
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answerProblems, bodyFields, bodyProblems, type Operation, operations } from '../support/openapi-checker.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { RealServer } from './real-server.ts';

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

let server: RealServer;
let client: NbdClient;

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('used', '16M');
  await server.createVolume('idle', '1M', 'strict');
  await server.start();
  client = await NbdClient.open({ path: server.socketPath }, 'used');
  await client.write(0, Buffer.alloc(8192, 1));
});
afterAll(async () => {
  client.socket.destroy();
  await server.dispose();
});

/** Asks; of a stream that does not end, the answer is what comes first. */
function ask(method: string, path: string, body: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: join(server.dataDirectory, 'control.sock'), path, method: method.toUpperCase(), agent: false }, (response) => {
      const type = response.headers['content-type'] ?? '';
      const { statusCode: status = 0 } = response;
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
        if (type.startsWith('text/event-stream')) {
          resolve({ status, type, text });
          call.destroy();
        }
      });
      response.on('end', () => resolve({ status, type, text }));
    });
    call.on('error', reject);
    call.end(body === null ? undefined : JSON.stringify(body));
  });
}

/** What each operation is asked, in this order. */
const ASKED: readonly (readonly [method: string, path: string, name: string, body: unknown, status: number])[] = [
  ['get', '/v1/server', '', null, 200],
  ['get', '/v1/stats', '', null, 200],
  ['get', '/v1/events', '', null, 200],
  ['get', '/metrics', '', null, 200],
  ['post', '/v1/volumes', '', { name: 'plain', sizeBytes: 1024 * 1024 }, 201],
  ['post', '/v1/volumes', '', { name: 'made', sizeBytes: 1024 * 1024, blockSizeBytes: 8192, compression: 'lz4', durability: 'async', acceptDataLoss: true, limits: { operationsPerSecond: 500, burstOperations: null }, log: { logFileBytes: 8 * 1024 * 1024, logFileCount: 4, eraseBlockBytes: 0, logIo: 'buffered' } }, 201],
  ['get', '/v1/volumes', '', null, 200],
  ['get', '/v1/volumes/{name}', 'used', null, 200],
  ['get', '/v1/volumes/{name}', 'made', null, 200],
  ['get', '/v1/volumes/{name}/stats', 'used', null, 200],
  ['get', '/v1/volumes/{name}/stats', 'idle', null, 200],
  ['get', '/v1/volumes/{name}/durability', 'used', null, 200],
  ['put', '/v1/volumes/{name}/durability', 'used', { durability: 'strict' }, 200],
  ['put', '/v1/volumes/{name}/durability', 'used', { durability: 'async', acceptDataLoss: true }, 200],
  ['put', '/v1/volumes/{name}/compression', 'used', { compression: 'lz4' }, 200],
  ['put', '/v1/volumes/{name}/compression', 'idle', { compression: 'default' }, 200],
  ['get', '/v1/volumes/{name}/compression', 'used', null, 200],
  ['put', '/v1/volumes/{name}/size', 'used', { sizeBytes: 32 * 1024 * 1024 }, 200],
  ['put', '/v1/volumes/{name}/size', 'used', { sizeBytes: 8 * 1024 * 1024, acceptDataLoss: true }, 200],
  ['put', '/v1/volumes/{name}/size', 'made', { sizeBytes: 8192 }, 400], // what that cuts off has to be said yes to
  ['patch', '/v1/volumes/{name}/labels', 'made', { labels: { owner: 'alice' } }, 200],
  ['patch', '/v1/volumes/{name}/labels', 'made', { labels: { owner: null } }, 200],
  ['get', '/v1/volumes/{name}/labels', 'made', null, 200],
  ['patch', '/v1/volumes/{name}/limits', 'used', { limits: { bytesPerSecond: 1e9, burstBytes: 1e9 } }, 200],
  ['get', '/v1/volumes/{name}/limits', 'used', null, 200],
  ['post', '/v1/volumes/{name}/scrub', 'used', {}, 200],
  ['post', '/v1/volumes/{name}/scrub', 'idle', { bytesPerSecond: 1024 * 1024 }, 200],
  ['post', '/v1/volumes/{name}/drain', 'used', {}, 501], // it has no bucket
  ['post', '/v1/volumes/{name}/refresh', 'used', {}, 501], // it follows nothing
  ['put', '/v1/volumes/{name}/name', 'made', { name: 'renamed' }, 200],
  ['delete', '/v1/volumes/{name}', 'renamed', null, 200],
  ['delete', '/v1/volumes/{name}', 'used', null, 409], // a client has it
  ['put', '/v1/volumes/{name}/name', 'plain', { name: 'idle' }, 409],
  ['post', '/v1/volumes', '', { name: 'idle', sizeBytes: 1024 * 1024 }, 409],
];

const keyOf = ({ method, path }: Operation): string => `${method} ${path}`;
const target = (path: string, name: string): string => path.replace('{name}', name);

describe('each operation of openapi.json', () => {
  test('is asked below', () => {
    expect(new Set(ASKED.map(([method, path]) => keyOf({ method, path })))).toEqual(new Set(operations().map(keyOf)));
  });

  test.each(ASKED)('%s %s of "%s" with %j is answered with %d, as described', async (method, path, name, body, status) => {
    expect(bodyProblems({ method, path }, body)).toEqual([]);
    const answer = await ask(method, target(path, name), body);
    expect(answer.status, answer.text).toBe(status);
    expect(answerProblems({ method, path }, answer)).toEqual([]);
  });
});

/** More than a body may have, and less than a socket takes at once: the server closes it without reading all. */
const LONG_BYTES = 80 * 1024;
const WITH_BODY = operations().filter((operation) => bodyFields(operation) !== null);
const OF_VOLUME = operations().filter(({ path }) => path.includes('{name}'));

/** A body that each operation takes, but for what is made wrong of it. */
function sound({ method, path }: Operation): object {
  const body = ASKED.find((row) => row[0] === method && row[1] === path)?.[3];
  return typeof body === 'object' && body !== null ? body : {};
}

describe('what is refused', () => {
  test.each(WITH_BODY)('$method $path: fields of other types and fields that are not there, by the document and by the server', async (operation) => {
    const { method, path } = operation;
    const bodies: unknown[] = [...(bodyFields(operation) ?? []).map((field) => ({ ...sound(operation), [field]: [[]] })), { ...sound(operation), strange: 1 }, [], 7];
    for (const body of bodies) {
      const answer = await ask(method, target(path, 'idle'), body);
      expect(answer.status, `${JSON.stringify(body)}: ${answer.text}`).toBe(400);
      expect(answerProblems(operation, answer)).toEqual([]);
      expect(bodyProblems(operation, body), JSON.stringify(body)).not.toEqual([]);
    }
  });

  test.each(OF_VOLUME)('$method $path: a volume that is not there', async (operation) => {
    const { method, path } = operation;
    const answer = await ask(method, target(path, 'none'), bodyFields(operation) === null ? null : sound(operation));
    expect(answer.status, answer.text).toBe(404);
    expect(answerProblems(operation, answer)).toEqual([]);
  });

  test.each(operations())('$method $path: a query, and more of a body than there may be', async (operation) => {
    const { method, path } = operation;
    const queried = await ask(method, `${target(path, 'idle')}?x=1`, null);
    expect(queried.status, queried.text).toBe(400);
    expect(answerProblems(operation, queried)).toEqual([]);
    const long = await ask(method, target(path, 'idle'), { name: 'x'.repeat(LONG_BYTES) });
    expect([400, 413], long.text).toContain(long.status);
    expect(answerProblems(operation, long)).toEqual([]);
  });
});
