/** STARTTLS and what stands on it, over real sockets. The handshake's answers are in `unit/session-tls.test.ts`. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ExportSettings, ExportTable, ServerSettings } from '../../src/base/settings-types.ts';
import { type Issued, issueCertificate, makeAuthority } from '../../src/cli/make-pki.ts';
import { NBD_CMD_WRITE, NBD_OPT_GO, NBD_OPT_LIST, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, NBD_REP_ERR_POLICY, NBD_REP_ERR_TLS_REQD, NBD_REP_ERR_UNKNOWN } from '../../src/protocol/constants.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { infoRequestBytes, optionBytes, requestBytes } from '../support/nbd-bytes.ts';
import { NbdClient, NbdDisconnected } from '../support/nbd-client.ts';
import { type HarnessOptions, ServerHarness } from '../support/server-harness.ts';
import { settled } from '../support/session-driver.ts';
import { EXPIRED, TestPki, VALID } from '../support/test-pki.ts';

const MIB = 1024 * 1024;
const KEY = Buffer.alloc(32, 0x5a);
const stops: (() => Promise<void>)[] = [];
let pki: TestPki;

beforeAll(async () => {
  pki = await TestPki.create();
  await writeFile(join(pki.directory, 'keys.psk'), `bob:${KEY.toString('hex')}\ncarol:${'ab'.repeat(32)}\n`);
});
afterAll(() => pki.dispose());
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function start(settings: Partial<ServerSettings>, options: HarnessOptions = {}): Promise<ServerHarness> {
  const harness = await ServerHarness.start({ listening: 'ipv4', ...options, settings: { tls: 'forced', tlsCertificates: pki.directory, ...settings } });
  stops.push(() => harness.stop());
  return harness;
}

/** What a client knows that trusts the authority and checks the server's name. */
const trust = (): tls.ConnectionOptions => ({ ca: pki.authority.certificate, servername: 'localhost' });
const showing = ({ certificate, key }: Issued): tls.ConnectionOptions => ({ ...trust(), cert: certificate, key });
const knowing = (identity: string, psk: Buffer = KEY): tls.ConnectionOptions => ({ ciphers: 'PSK', pskCallback: () => ({ identity, psk }), checkServerIdentity: () => undefined });

async function greeted(harness: ServerHarness): Promise<NbdClient> {
  const client = await NbdClient.connect(harness.address);
  await client.greet();
  return client;
}

async function secured(harness: ServerHarness, options: tls.ConnectionOptions = trust()): Promise<NbdClient> {
  const client = await greeted(harness);
  await client.startTls(options);
  return client;
}

/** In TLS 1.3 a client is done before the server has judged it: the refusal comes with the first answer. */
async function refused(harness: ServerHarness, options: tls.ConnectionOptions): Promise<string> {
  await expect(secured(harness, options).then((client) => client.list())).rejects.toBeInstanceOf(Error);
  const { fields } = await harness.logger.first('tls-failed');
  while (harness.server.connectionCount > 0) await settled();
  expect(harness.directory.holderCount('disk')).toBe(0);
  return String(fields.message);
}

describe.each([
  { listening: 'ipv4', receivePath: 'onread', version: 'TLSv1.3' },
  { listening: 'ipv4', receivePath: 'stream', version: 'TLSv1.3' },
  { listening: 'ipv6', receivePath: 'onread', version: 'TLSv1.2' },
  { listening: 'unix', receivePath: 'onread', version: 'TLSv1.3' },
  { listening: 'unix', receivePath: 'stream', version: 'TLSv1.2' },
] as const)('$version over $listening, accepted with $receivePath', ({ version, ...options }) => {
  test('a client reads back what it wrote, in every size, and leaves in order', async () => {
    const harness = await start({}, options);
    const client = await secured(harness, { ...trust(), maxVersion: version });
    await client.go('disk', [0, 1, 2, 3]);
    for (const [index, length] of [1, 512, 4096, 131_072, 262_144, MIB, 5 * MIB + 1, 15 * MIB].entries()) {
      const payload = Buffer.alloc(length, index + 1);
      await client.write(index, payload, index % 2 === 0);
      expect((await client.read(index, length)).equals(payload)).toBe(true);
    }
    await Promise.all(Array.from({ length: 50 }, (_, index) => client.read(index * 1000, 200_000)));
    await client.close();
    expect((await harness.logger.first('client-secured')).fields).toMatchObject({ protocol: version, names: [] });
    expect((await harness.logger.first('client-disconnected')).fields).toMatchObject({ reason: 'client left', export: 'disk' });
    await settled();
    expect(harness.server.bufferBytes).toBe(0);
    expect(harness.server.counts).toMatchObject({ accepted: 1, secured: 1, tlsFailed: 0 });
  });

  test('options may follow the handshake at once, and ABORT ends in order', async () => {
    const harness = await start({}, options);
    const client = await secured(harness, { ...trust(), maxVersion: version });
    expect(await client.list()).toEqual([{ name: 'disk', description: '' }]);
    expect((await client.refusedOption(NBD_OPT_STARTTLS)).type).toBe(NBD_REP_ERR_INVALID);
    await client.abort();
  });
});

test('versions below TLS 1.2 are refused', async () => {
  const harness = await start({});
  await refused(harness, { ...trust(), minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
});

test('without TLS there is none', async () => {
  const harness = await ServerHarness.start();
  stops.push(() => harness.stop());
  const client = await greeted(harness);
  expect((await client.refusedOption(NBD_OPT_STARTTLS)).type).toBe(NBD_REP_ERR_POLICY);
  await client.go('disk');
  await client.close();
});

describe('a client that must show a certificate', () => {
  const settings = { tlsVerifyPeer: true };

  test('of our authority is let in, under its names', async () => {
    const harness = await start(settings);
    const client = await secured(harness, showing(pki.client));
    await client.go('disk');
    expect((await harness.logger.first('client-secured')).fields.names).toEqual(['alice', 'alice.example']);
    await client.close();
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('of another authority is refused, in %s', async (version) => {
    const harness = await start(settings);
    // The same names, so that only the signature tells them apart.
    const other = await makeAuthority('test authority', VALID);
    const forged = await issueCertificate(other, { name: 'alice', purpose: 'client', altNames: [], validity: VALID });
    expect(await refused(harness, { ...showing(forged), maxVersion: version })).toMatch(/certificate|verify/);
  });

  test('and shows none is refused', async () => {
    const harness = await start(settings);
    expect(await refused(harness, trust())).toMatch(/certificate/);
  });

  test('that is expired is refused', async () => {
    const harness = await start(settings);
    await refused(harness, showing(await pki.issue({ validity: EXPIRED })));
  });

  test('that is for servers is refused', async () => {
    const harness = await start(settings);
    await refused(harness, showing(pki.server));
  });

  test('that only looks like one is refused', async () => {
    const harness = await start(settings);
    const own = await makeAuthority('alice', VALID);
    await refused(harness, showing(own));
  });
});

const keysAlone = (): Partial<ServerSettings> => ({ tlsCertificates: '', tlsPskFile: join(pki.directory, 'keys.psk') });

describe('a client that must know a key', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('and knows it is let in, under its name, in %s', async (version) => {
    const harness = await start(keysAlone());
    const client = await secured(harness, { ...knowing('bob'), maxVersion: version });
    await client.go('disk');
    await client.write(0, Buffer.alloc(5000, 1));
    expect((await harness.logger.first('client-secured')).fields).toMatchObject({ protocol: version, names: ['bob'] });
    await client.close();
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('of somebody else, or of nobody, is refused, in %s', async (version) => {
    const harness = await start(keysAlone());
    await refused(harness, { ...knowing('carol'), maxVersion: version });
    await refused(harness, { ...knowing('nobody'), maxVersion: version });
  });

  test('and comes without one is refused', async () => {
    const harness = await start(keysAlone());
    await refused(harness, trust());
  });

  test('beside certificates, either will do', async () => {
    const harness = await start({ tlsPskFile: join(pki.directory, 'keys.psk'), tlsVerifyPeer: true });
    for (const options of [knowing('bob'), showing(pki.client)]) {
      const client = await secured(harness, options);
      await client.go('disk');
      await client.close();
    }
    const names = harness.logger.events.filter(({ event }) => event === 'client-secured').map(({ fields }) => fields.names);
    expect(names).toEqual([['bob'], ['alice', 'alice.example']]);
    await refused(harness, trust());
  });

  test("has no name by naming a user whose key it does not use: a handshake can end otherwise", async () => {
    const exports: ExportTable = new Map([['disk', { readOnly: false, allow: null, tlsRequired: true, tlsNames: ['bob'] }]]);
    const harness = await start({ tlsPskFile: join(pki.directory, 'keys.psk') }, { exports });
    // A key goes with SHA-256; the server falls back to its certificate, having been told the name.
    const client = await secured(harness, { ...trust(), ciphers: 'TLS_AES_256_GCM_SHA384:PSK', minVersion: 'TLSv1.3', pskCallback: () => ({ identity: 'bob', psk: Buffer.alloc(32) }) });
    expect((await harness.logger.first('client-secured')).fields.names).toEqual([]);
    expect((await client.refusedOption(NBD_OPT_GO, infoRequestBytes('disk'))).type).toBe(NBD_REP_ERR_UNKNOWN);
    await client.cut();
  });
});

describe('nothing from before TLS is carried over', () => {
  test('plaintext behind STARTTLS closes the connection', async () => {
    const harness = await start({ tls: 'selective' });
    const client = await greeted(harness);
    client.send(Buffer.concat([optionBytes(NBD_OPT_STARTTLS), optionBytes(NBD_OPT_GO, infoRequestBytes('disk'))]));
    await client.expectEnd();
    expect((await harness.logger.first('client-protocol-error')).fields.message).toContain('data behind NBD_OPT_STARTTLS');
    expect(harness.directory.holders.size).toBe(0);
  });

  test.each(['onread', 'stream'] as const)('plaintext that comes later is garbage for TLS (%s)', async (receivePath) => {
    const harness = await start({ tls: 'selective' }, { receivePath });
    const client = await greeted(harness);
    client.send(optionBytes(NBD_OPT_STARTTLS));
    await settled();
    client.send(Buffer.concat([optionBytes(NBD_OPT_GO, infoRequestBytes('disk')), requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), payload: Buffer.alloc(4096, 1) })]));
    await client.untilEnd();
    await harness.logger.first('tls-failed');
    expect(harness.directory.holders.size).toBe(0);
    expect(harness.device.data.every((byte) => byte === 0)).toBe(true);
  });

  test('a STARTTLS that arrives byte by byte works', async () => {
    const harness = await start({});
    const client = await greeted(harness);
    for (const byte of optionBytes(NBD_OPT_STARTTLS)) {
      client.send(Buffer.from([byte]));
      await settled();
    }
    expect((await client.takeOptionReply(NBD_OPT_STARTTLS)).type).toBe(1);
    await client.beginTls(trust());
    await client.go('disk');
    await client.close();
  });
});

describe('a bad handshake', () => {
  test.each<[string, Buffer]>([
    ['random bytes', Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 31 + 7) & 0xff))],
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['half a ClientHello and the end', Buffer.from('16030102000100', 'hex')],
    ['a record of the largest length', Buffer.concat([Buffer.from('160301ffff', 'hex'), Buffer.alloc(65_535)])],
    ['an SSL 2 hello', Buffer.from('802e0100020015000000100100800200800300800400800500800600400700c0', 'hex')],
  ])('of %s ends its connection and nobody else’s', async (_, bytes) => {
    const harness = await start({});
    const other = await secured(harness);
    await other.go('disk');
    const client = await greeted(harness);
    client.send(optionBytes(NBD_OPT_STARTTLS));
    await client.takeOptionReply(NBD_OPT_STARTTLS);
    client.send(bytes);
    client.endInput();
    await client.untilEnd();
    expect((await harness.logger.first('client-disconnected')).fields.reason).toBe('TLS handshake failed');
    expect(harness.server.counts).toMatchObject({ tlsFailed: 1, secured: 1 });
    await other.write(0, Buffer.alloc(100, 1));
    await other.close();
  });

  test('that stalls is dropped in time', async () => {
    const harness = await start({ tlsHandshakeTimeoutMs: 80 });
    const client = await greeted(harness);
    await client.option(NBD_OPT_STARTTLS);
    await client.untilEnd();
    expect((await harness.logger.first('client-disconnected')).fields.reason).toBe('TLS handshake timeout');
  });

  test('that stalls gives way to one that waits, long before its time', async () => {
    const harness = await start({ tlsHandshakeTimeoutMs: 4000, maxTlsHandshakes: 2 });
    const stalled = [await greeted(harness), await greeted(harness)];
    for (const client of stalled) await client.option(NBD_OPT_STARTTLS);
    const began = performance.now();
    const client = await secured(harness);
    expect(performance.now() - began).toBeLessThan(2000);
    await client.go('disk');
    await stalled[0].untilEnd();
    expect(harness.server.connectionCount).toBe(2); // nobody waits any more: the other one has all its time
    await stalled[1].cut();
    await client.close();
  });

  test('cut off by a stop leaves nothing behind', async () => {
    const harness = await ServerHarness.start({ settings: { tls: 'forced', tlsCertificates: pki.directory } });
    const client = await greeted(harness);
    await client.option(NBD_OPT_STARTTLS);
    await harness.stop();
    await client.untilEnd();
    expect(harness.server.connectionCount).toBe(0);
  });

  test('a client that leaves between STARTTLS and TLS leaves nothing behind', async () => {
    const harness = await start({});
    for (let round = 0; round < 5; round += 1) {
      const client = await greeted(harness);
      await client.option(NBD_OPT_STARTTLS);
      await client.cut();
    }
    while (harness.server.connectionCount > 0) await settled();
    expect(harness.server.counts.tlsFailed).toBe(5);
  });
});

test('as many handshakes as allowed run at a time, and the rest come to their turn', async () => {
  const harness = await start({ maxTlsHandshakes: 2 });
  const clients = await Promise.all(Array.from({ length: 12 }, () => secured(harness)));
  await Promise.all(clients.map((client) => client.go('disk')));
  expect(harness.server.counts).toMatchObject({ secured: 12, tlsFailed: 0 });
  await Promise.all(clients.map((client) => client.close()));
});

test('half a write, then the end without a goodbye: nothing is applied', async () => {
  const harness = await start({});
  const client = await secured(harness);
  await client.go('disk');
  const request = requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), payload: Buffer.alloc(3 * MIB, 0xff) });
  client.send(request.subarray(0, request.length - 1));
  client.endInput();
  await harness.logger.first('client-disconnected');
  expect(harness.device.data.every((byte) => byte === 0)).toBe(true);
  await settled();
  expect(harness.server.bufferBytes).toBe(0);
});

test('a client that never reads its replies is paused and holds a bounded amount of memory', async () => {
  const harness = await start({ maxReplyBytes: 2 * MIB });
  const client = await secured(harness);
  await client.go('disk');
  client.socket.pause();
  for (let count = 0; count < 150; count += 1) client.send(requestBytes({ command: 0, cookie: Buffer.alloc(8, count), length: MIB }));
  const other = await secured(harness);
  await other.go('disk');
  for (let round = 0; round < 5; round += 1) {
    await other.write(15 * MIB, Buffer.alloc(100_000, round));
    expect(harness.server.bufferBytes).toBeLessThan(4 * MIB);
  }
  await client.cut();
  await other.close();
  while (harness.server.connectionCount > 0) await settled();
  expect(harness.server.bufferBytes).toBe(0);
});

describe('certificates', () => {
  test('that are read again hold for new connections, and old ones stay', async () => {
    const harness = await start({});
    const old = await secured(harness);
    await old.go('disk');
    const next = await pki.issue({ name: 'localhost', purpose: 'server', altNames: ['localhost'] });
    try {
      await pki.write('server', next);
      await harness.credentials?.reload(Date.now());
      const fresh = await greeted(harness);
      const socket = await fresh.startTls(trust());
      expect(socket.getPeerX509Certificate()?.toString()).toBe(next.certificate.replaceAll('\r', ''));
      await fresh.abort();
      await old.write(0, Buffer.alloc(100, 1));
      await old.close();
    } finally {
      await pki.write('server', pki.server);
    }
  });

  test.each<[string, () => Promise<Issued>, RegExp]>([
    ['are no certificates', () => Promise.resolve({ certificate: 'nonsense', key: 'nonsense' }), /cannot be used/],
    ['do not go with their key', async () => ({ ...(await pki.issue({ purpose: 'server' })), key: pki.server.key }), /cannot be used: .*key values mismatch/],
    ['are expired', () => pki.issue({ purpose: 'server', validity: EXPIRED }), /server-cert.pem expired on/],
  ])('that %s are refused, and the old ones stay', async (_, make, message) => {
    const harness = await start({});
    try {
      await pki.write('server', await make());
      await expect(harness.credentials?.reload(Date.now())).rejects.toThrow(message);
      const client = await secured(harness);
      await client.go('disk');
      await client.close();
    } finally {
      await pki.write('server', pki.server);
    }
  });
});

const devices = (): MemoryDevice[] => ['open', 'secret', 'alices'].map((name) => new MemoryDevice({ name }));

describe('selective TLS', () => {
  const rules: ExportSettings = { readOnly: false, allow: null, tlsRequired: true, tlsNames: null };
  const exports: ExportTable = new Map([
    ['secret', rules],
    ['alices', { ...rules, tlsNames: ['alice', 'mallory'] }],
  ]);

  test('serves open exports without, and those of TLS in TLS, to those who may have them', async () => {
    const harness = await start({ tls: 'selective', tlsVerifyPeer: true, tlsPskFile: join(pki.directory, 'keys.psk') }, { devices: devices(), exports });
    const plain = await greeted(harness);
    expect((await plain.list()).map(({ name }) => name)).toEqual(['open']);
    expect((await plain.refusedOption(NBD_OPT_GO, infoRequestBytes('secret'))).type).toBe(NBD_REP_ERR_TLS_REQD);
    await plain.go('open');
    await plain.close();
    const alice = await secured(harness, showing(pki.client));
    expect((await alice.list()).map(({ name }) => name)).toEqual(['open', 'secret', 'alices']);
    await alice.go('alices');
    await alice.close();
    const bob = await secured(harness, knowing('bob'));
    expect((await bob.list()).map(({ name }) => name)).toEqual(['open', 'secret']);
    expect((await bob.refusedOption(NBD_OPT_GO, infoRequestBytes('alices'))).type).toBe(NBD_REP_ERR_UNKNOWN);
    await bob.go('secret');
    await bob.close();
  });

  test('an old client cannot name an export of TLS', async () => {
    const harness = await start({ tls: 'selective' }, { devices: devices(), exports });
    const client = await NbdClient.connect(harness.address);
    await client.greet(0);
    await expect(client.exportName('secret', true)).rejects.toBeInstanceOf(NbdDisconnected);
  });
});

test('forced TLS answers nothing before it', async () => {
  const harness = await start({});
  const client = await greeted(harness);
  expect((await client.refusedOption(NBD_OPT_LIST)).type).toBe(NBD_REP_ERR_TLS_REQD);
  expect((await client.refusedOption(NBD_OPT_STARTTLS, Buffer.from('x'))).type).toBe(NBD_REP_ERR_INVALID);
  await client.startTls(trust());
  await client.go('disk');
  await client.close();
});
