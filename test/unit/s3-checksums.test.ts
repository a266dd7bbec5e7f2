/** How bodies are guarded on their way to stores of different kinds: by a server of our own that plays them, and keeps the headers. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { checksumC } from '../../src/base/checksum.ts';
import type { RemoteStore } from '../../src/store/remote-store.ts';
import { openS3Store } from '../../src/store/s3-store.ts';
import { CredentialsFolder, nodeEnv, QUICK_RETRIES, s3Settings } from '../support/s3-settings.ts';

const KIB = 1024;
const LARGE = Buffer.alloc(300 * KIB, 7);
const SMALL = Buffer.alloc(1000, 7);

/** `checks`: a wrong checksum is refused; `ignores`: it is taken; `refuses`: the header is; `away`: the first answers are 503. */
type Kind = 'checks' | 'ignores' | 'refuses' | 'away';

interface Seen {
  readonly method: string;
  readonly key: string;
  readonly crc: string | undefined;
  readonly signed: string | undefined;
}

const crcOf = (bytes: Uint8Array): string => {
  const value = Buffer.alloc(4);
  value.writeUInt32BE(checksumC?.(bytes) ?? 0);
  return value.toString('base64');
};

let credentials: CredentialsFolder;
let credentialsFile: string;
let server: Server;
let kind: Kind;
let seen: Seen[];
let refusals: number;
let store: RemoteStore;

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) if (Buffer.isBuffer(part)) parts.push(part);
  return Buffer.concat(parts);
}

const header = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
};

async function answer(request: IncomingMessage): Promise<{ status: number; code?: string }> {
  const body = await bodyOf(request);
  const crc = header(request, 'x-amz-checksum-crc32c');
  seen.push({ method: request.method ?? '', key: (request.url ?? '').replace(/^\/bucket\/([^?]*).*$/u, '$1'), crc, signed: header(request, 'x-amz-content-sha256') });
  if (request.method === 'DELETE') return { status: 204 };
  if (kind === 'away' && refusals > 0) {
    refusals -= 1;
    return { status: 503, code: 'ServiceUnavailable' };
  }
  if (crc === undefined || kind === 'ignores') return { status: 200 };
  if (kind === 'refuses') return { status: 400, code: 'InvalidArgument' };
  return crc === crcOf(body) ? { status: 200 } : { status: 400, code: 'BadDigest' };
}

beforeAll(async () => {
  credentials = await CredentialsFolder.create();
  credentialsFile = await credentials.write('key', 'a', 'b');
});
afterAll(() => credentials.dispose());
beforeEach(async () => {
  seen = [];
  refusals = 0;
  server = createServer((request, response) => {
    void answer(request).then(({ status, code }) => {
      response.writeHead(status, { etag: '"0"', 'content-type': 'application/xml' });
      response.end(code === undefined ? '' : `<?xml version="1.0"?><Error><Code>${code}</Code><Message>by the test</Message></Error>`);
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  store = await openS3Store(nodeEnv(), s3Settings({ endpoint: `http://127.0.0.1:${port}`, bucket: 'bucket', credentialsFile, retries: QUICK_RETRIES }));
});
afterEach(() => {
  store.close();
  server.closeAllConnections();
  server.close();
});

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const signed = (key: string, bytes: Uint8Array): Seen => ({ method: 'PUT', key, crc: undefined, signed: sha256(bytes) });

describe.skipIf(checksumC === null)('a large body', () => {
  test('goes with its CRC-32C in place of a signed hash to a store that has refused a wrong one; that is asked once', async () => {
    kind = 'checks';
    await Promise.all([store.put('one', [LARGE]), store.put('two', [LARGE])]);
    await store.put('three', [LARGE]);
    const [probe, ...rest] = seen;
    expect(probe).toMatchObject({ method: 'PUT', key: 'probe-checksum' });
    expect(rest.map(({ key }) => key).toSorted()).toEqual(['one', 'three', 'two']);
    for (const { crc, signed: hash } of rest) expect([crc, hash]).toEqual([crcOf(LARGE), 'UNSIGNED-PAYLOAD']);
  });

  test('goes with its signed hash to a store that takes a wrong checksum; what that made is removed', async () => {
    kind = 'ignores';
    await store.put('one', [LARGE]);
    await store.put('two', [LARGE]);
    expect(seen.map(({ method, key }) => `${method} ${key}`)).toEqual(['PUT probe-checksum', 'DELETE probe-checksum', 'PUT one', 'PUT two']);
    expect(seen.slice(2)).toEqual([signed('one', LARGE), signed('two', LARGE)]);
  });

  test('goes with its signed hash to a store that refuses checksums', async () => {
    kind = 'refuses';
    await store.put('one', [LARGE]);
    expect(seen.slice(1)).toEqual([signed('one', LARGE)]);
  });

  test('goes the sure way while the store cannot be asked, and asks again', async () => {
    kind = 'away';
    refusals = 1;
    await store.put('one', [LARGE]);
    expect(seen.slice(1)).toEqual([signed('one', LARGE)]);
    await store.put('two', [LARGE]);
    expect(seen.slice(2).map(({ key, signed: hash }) => [key, hash === 'UNSIGNED-PAYLOAD'])).toEqual([['probe-checksum', false], ['two', true]]);
  });
});

test.skipIf(checksumC === null)('CRC-32C is the one that its polynomial says', () => {
  expect(checksumC?.(Buffer.from('123456789'))).toBe(0xe3069283);
});

test('a small body has its hash signed, and nothing is asked for it', async () => {
  kind = 'checks';
  await store.put('one', [SMALL]);
  expect(seen).toEqual([signed('one', SMALL)]);
});
