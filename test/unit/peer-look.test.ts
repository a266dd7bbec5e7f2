/** Whether a peer has left, though what it sent is unread; with real sockets. */
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { hasPeerLeft } from '../../src/env/node-sockets.ts';
import { NO_POLL, PeerLook } from '../../src/server/peer-look.ts';
import { hasMappings } from '../support/mappings.ts';

const ended: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0)) await end();
});

type Over = 'ipv4' | 'ipv6' | 'unix';

/** Both ends of a connection; nobody reads the accepted one. */
async function connected(over: Over): Promise<{ client: net.Socket; accepted: net.Socket }> {
  const folder = await mkdtemp(join(tmpdir(), 'basalt-peer-'));
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  const path = join(folder, 'socket');
  await new Promise<void>((resolve) => void (over === 'unix' ? server.listen(path, resolve) : server.listen(0, over === 'ipv4' ? '127.0.0.1' : '::1', resolve)));
  const address = server.address();
  const accepting = new Promise<net.Socket>((resolve) => void server.once('connection', resolve));
  const client = typeof address === 'object' && address !== null ? net.connect({ host: address.address, port: address.port }) : net.connect({ path });
  client.on('error', () => undefined);
  const accepted = await accepting;
  accepted.on('error', () => undefined);
  ended.push(() => client.destroy(), () => accepted.destroy(), () => void server.close(), () => rm(folder, { recursive: true }));
  return { client, accepted };
}

/** Whether it is so within five seconds. */
async function becomesTrue(condition: () => boolean): Promise<boolean> {
  for (let turn = 0; turn < 500; turn += 1) {
    if (condition()) return true;
    await delay(10);
  }
  return false;
}

const sent = (client: net.Socket, bytes: Uint8Array): Promise<void> => new Promise((resolve) => void client.write(bytes, () => resolve()));

const WAYS = [
  ...(hasMappings() ? (['ipv4', 'ipv6', 'unix'] as const).map((over) => [over, true] as const) : []),
  ...(['ipv4', 'ipv6'] as const).map((over) => [over, false] as const),
];

describe.each(WAYS)('a look at a peer over %s, by poll: %s,', (over, usesPoll) => {
  test('tells an end that is behind unread bytes, and takes none of them', async () => {
    const { client, accepted } = await connected(over);
    const look = new PeerLook(accepted, usesPoll ? hasPeerLeft : NO_POLL);
    await sent(client, Buffer.alloc(50_000, 7));
    expect(look.hasLeft()).toBe(false);
    await delay(50);
    expect(look.hasLeft()).toBe(false);
    client.end();
    expect(await becomesTrue(() => look.hasLeft())).toBe(true);
    let have = 0;
    for await (const chunk of accepted) have += Buffer.isBuffer(chunk) ? chunk.length : 0;
    expect(have).toBe(50_000);
  });

  test('tells a connection that was cut off', async () => {
    const { client, accepted } = await connected(over);
    const look = new PeerLook(accepted, usesPoll ? hasPeerLeft : NO_POLL);
    await sent(client, Buffer.alloc(50_000, 7));
    if (over === 'unix') client.destroy();
    else client.resetAndDestroy();
    expect(await becomesTrue(() => look.hasLeft())).toBe(true);
  });
});

test('a unix socket without poll is taken for one whose peer is there', async () => {
  const { client, accepted } = await connected('unix');
  const look = new PeerLook(accepted, NO_POLL);
  client.destroy();
  await delay(30);
  expect(look.hasLeft()).toBe(false);
});
