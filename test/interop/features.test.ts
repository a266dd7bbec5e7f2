/** README's table "What of NBD is spoken", row by row, of the built server: the protocol. The rest is in `features-server.test.ts`. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_RESIZE,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_RESIZE,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_REP_ERR_UNKNOWN,
} from '../../src/protocol/constants.ts';
import { infoRequestBytes, metaContextBytes } from '../support/nbd-bytes.ts';
import { NbdClient, NbdDisconnected } from '../support/nbd-client.ts';
import type { AskedRequest, Reply, ReplyStyle } from '../support/reply-reader.ts';
import { TestPki } from '../support/test-pki.ts';
import { row } from './feature-rows.ts';
import { basaltOk, RealServer } from './real-server.ts';

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const CONTEXTS = ['base:allocation', 'basalt:state', 'qemu:allocation-depth'];
let server: RealServer;
let pki: TestPki;

beforeAll(async () => {
  pki = await TestPki.create();
  server = await RealServer.create();
  await server.createVolume('demo', '64M');
  await server.createVolume('locked', '1M');
  await server.createVolume('secret', '1M');
  const config = join(server.directory, 'basalt.toml');
  await writeFile(config, '[exports.locked]\nread_only = true\n[exports.secret]\ntls = "required"\n');
  await server.start('--config', config, '--server.tls', 'selective', '--server.tls-certificates', pki.directory);
});
afterAll(async () => {
  await server.dispose();
  await pki.dispose();
});

const clients: NbdClient[] = [];
afterEach(() => {
  for (const { socket } of clients.splice(0)) socket.destroy();
});

/** A connection that has said its client flags. */
async function greeted(flags = 3): Promise<NbdClient> {
  const client = await NbdClient.connect({ host: '127.0.0.1', port: server.port });
  clients.push(client);
  await client.greet(flags);
  return client;
}

async function opened(style: ReplyStyle = 'simple', contexts: readonly string[] = [], name = 'demo'): Promise<NbdClient> {
  const client = await greeted();
  if (style !== 'simple') await client.agree(style);
  if (contexts.length > 0) await client.contexts(NBD_OPT_SET_META_CONTEXT, name, contexts);
  await client.go(name);
  return client;
}

async function errorOf(client: NbdClient, asked: AskedRequest): Promise<number> {
  return (await client.request(asked)).error;
}

function flagsOf(client: NbdClient): number {
  return client.export?.transmissionFlags ?? 0;
}

const styles = ['simple', 'structured', 'extended'] as const;
const chunkStyles = ['structured', 'extended'] as const;

describe('the handshake', () => {
  row('fixed newstyle: INFO, GO, LIST, ABORT', 'a client looks around, opens or leaves', async () => {
    const client = await greeted();
    expect((await client.list()).map(({ name }) => name)).toEqual(['demo', 'locked']);
    const info = await client.info('demo', [NBD_INFO_NAME]);
    expect(await client.info('demo', [NBD_INFO_NAME])).toEqual(info);
    expect(await client.go('demo', [NBD_INFO_NAME])).toEqual(info);
    expect(info.sizeBytes).toBe(BigInt(SIZE));
    await client.close();
    await (await greeted()).abort();
  });

  row('EXPORT_NAME', 'opens with and without the padding', async () => {
    for (const flags of [0, 1, 2, 3]) {
      const client = await greeted(flags);
      expect((await client.exportName('demo', (flags & 2) === 0)).sizeBytes).toBe(BigInt(SIZE));
      expect(await client.read(0, 512)).toHaveLength(512);
      await client.close();
    }
  });

  row('unknown client flags', 'end the connection', async () => {
    for (const flags of [4, 7, 0x80000003]) await (await greeted(flags)).expectEnd();
  });

  row('INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE', 'are told when asked for', async () => {
    const client = await greeted();
    const info = await client.go('demo', [NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE]);
    expect(info).toMatchObject({ name: 'demo', description: 'basalt volume, batched', blockSizes: { minimum: 1, preferred: 4096, maximum: 32 * MIB } });
  });

  row('unknown exports', 'are refused by each option that names one', async () => {
    const client = await greeted();
    await client.agree('structured');
    await client.startTls({ ca: [pki.authority.certificate], servername: 'localhost' });
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) expect(await client.refusedOption(option, infoRequestBytes('none'))).toMatchObject({ type: NBD_REP_ERR_UNKNOWN });
    await client.agree('structured');
    for (const option of [NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT]) expect(await client.refusedOption(option, metaContextBytes('none', []))).toMatchObject({ type: NBD_REP_ERR_UNKNOWN });
    await client.go('demo');
    await expect((await greeted()).exportName('none')).rejects.toBeInstanceOf(NbdDisconnected);
  });
});

describe('replies', () => {
  row('structured replies, OFFSET_HOLE', 'reads tell data from holes', async () => {
    for (const style of chunkStyles) {
      const client = await opened(style);
      await client.trim(0, SIZE);
      await client.write(MIB, Buffer.alloc(MIB, 7));
      const { pieces, data } = await client.request({ command: NBD_CMD_READ, offset: 0, length: 3 * MIB });
      expect(pieces).toEqual([
        { kind: 'hole', offset: 0, length: MIB },
        { kind: 'data', offset: MIB, length: MIB },
        { kind: 'hole', offset: 2 * MIB, length: MIB },
      ]);
      expect(data.equals(Buffer.concat([Buffer.alloc(MIB), Buffer.alloc(MIB, 7), Buffer.alloc(MIB)]))).toBe(true);
    }
  });

  row('texts of errors', 'options have them always, commands with structured replies', async () => {
    const client = await greeted();
    expect((await client.refusedOption(NBD_OPT_LIST, Buffer.alloc(1))).text).toMatch(/takes no data/);
    for (const style of chunkStyles) {
      const { text, error } = await (await opened(style)).request({ command: NBD_CMD_READ, offset: SIZE, length: 1 });
      expect([error, text]).toEqual([NBD_EINVAL, expect.stringContaining('past the end')]);
      for (const command of [NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM, NBD_CMD_CACHE]) expect((await (await opened(style)).request({ command, offset: SIZE, length: 1 })).text).toContain('past the end');
    }
  });

  row('`base:allocation` / contexts of QEMU', 'are listed, selected and told', async () => {
    for (const style of chunkStyles) {
      const client = await greeted();
      await client.agree(style);
      expect((await client.contexts(NBD_OPT_LIST_META_CONTEXT, 'demo', [])).map(({ name }) => name)).toEqual(CONTEXTS);
      expect((await client.contexts(NBD_OPT_LIST_META_CONTEXT, 'demo', ['qemu:'])).map(({ name }) => name)).toEqual(['qemu:allocation-depth']);
      const selected = await client.contexts(NBD_OPT_SET_META_CONTEXT, 'demo', ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:none']);
      await client.go('demo');
      await client.trim(0, SIZE);
      await client.write(0, Buffer.alloc(8192, 1));
      await client.zero(4096, 8192, { provisioned: true });
      const { statuses } = await client.request({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 16_384 });
      const told = selected.map(({ id }) => (statuses.get(id) ?? []).map(({ length, status }) => [length, status]));
      expect(told).toEqual([
        [[4096, 0], [8192, 2], [4096, 3]],
        [[12_288, 1], [4096, 0]],
      ]);
      const one = await client.request({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: SIZE, flags: NBD_CMD_FLAG_REQ_ONE });
      expect(selected.map(({ id }) => one.statuses.get(id)?.length)).toEqual([1, 1]);
    }
  });

  row('extended headers, BLOCK_STATUS_PAYLOAD', 'lengths have 64 bits, and a payload chooses contexts', async () => {
    const client = await opened('extended', CONTEXTS);
    expect(flagsOf(client) & NBD_FLAG_BLOCK_STATUS_PAYLOAD).not.toBe(0);
    const [, state] = client.reader.contexts;
    const { statuses, types } = await client.request({ command: NBD_CMD_BLOCK_STATUS, offset: 0, asks: { length: SIZE, ids: [state.id] } });
    expect([[...statuses.keys()], types]).toEqual([[state.id], [6]]);
    expect(await errorOf(client, { command: NBD_CMD_TRIM, offset: 0, length: 2n ** 33n })).toBe(NBD_EINVAL);
    expect(flagsOf(await opened('structured', CONTEXTS)) & NBD_FLAG_BLOCK_STATUS_PAYLOAD).toBe(0);
  });

  row('DF', 'is advertised if and only if replies are structured, and gives one chunk', async () => {
    for (const style of styles) {
      const client = await opened(style);
      expect((flagsOf(client) & NBD_FLAG_SEND_DF) !== 0).toBe(style !== 'simple');
      await client.trim(0, SIZE);
      await client.write(4096, Buffer.alloc(4096, 7));
      const { pieces, error } = await client.request({ command: NBD_CMD_READ, offset: 0, length: 65_536, flags: NBD_CMD_FLAG_DF });
      if (style === 'simple') expect(error).toBe(NBD_EINVAL);
      else expect(pieces).toEqual([{ kind: 'data', offset: 0, length: 65_536 }]);
    }
  });
});

describe.each(styles)('commands with %s replies', (style) => {
  row('FLUSH, FUA', 'are advertised, and FUA may stand on each command', async () => {
    const client = await opened(style, style === 'simple' ? [] : CONTEXTS);
    const always = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
    expect(flagsOf(client) & always).toBe(always);
    expect(flagsOf(await opened(style, [], 'locked')) & always).toBe(always);
    const flags = NBD_CMD_FLAG_FUA;
    expect(await errorOf(client, { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096), flags })).toBe(0);
    expect(await errorOf(client, { command: NBD_CMD_FLUSH, flags })).toBe(0);
    for (const command of [NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES]) expect(await errorOf(client, { command, offset: 0, length: 4096, flags })).toBe(0);
    if (style !== 'simple') expect(await errorOf(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 4096, flags })).toBe(0);
  });

  row('TRIM, WRITE_ZEROES, NO_HOLE, FAST_ZERO, CACHE', 'are advertised and do what they say', async () => {
    const client = await opened(style);
    const all = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE;
    expect(flagsOf(client) & all).toBe(all);
    for (const flags of [0, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO]) {
      await client.write(0, Buffer.alloc(MIB, 5));
      expect(await errorOf(client, { command: NBD_CMD_WRITE_ZEROES, offset: 100, length: MIB - 200, flags })).toBe(0);
      expect((await client.read(0, MIB)).equals(Buffer.concat([Buffer.alloc(100, 5), Buffer.alloc(MIB - 200), Buffer.alloc(100, 5)]))).toBe(true);
    }
    await client.trim(0, SIZE);
    expect((await client.read(0, MIB)).every((byte) => byte === 0)).toBe(true);
    await client.cache(0, SIZE);
  });

  row('CAN_MULTI_CONN', 'a write answered on one connection is read on the other', async () => {
    const [first, second] = [await opened(style), await opened(style)];
    expect(flagsOf(first) & NBD_FLAG_CAN_MULTI_CONN).not.toBe(0);
    for (let round = 1; round < 50; round += 1) {
      await first.write(round * 1000, Buffer.alloc(1000, round));
      expect((await second.read(round * 1000, 1000)).equals(Buffer.alloc(1000, round))).toBe(true);
    }
    await second.flush();
  });

  row('RESIZE', 'is neither advertised nor known', async () => {
    const client = await opened(style);
    expect(flagsOf(client) & NBD_FLAG_SEND_RESIZE).toBe(0);
    expect(await errorOf(client, { command: NBD_CMD_RESIZE, offset: 0, length: MIB })).toBe(NBD_EINVAL);
  });

  row('a write past the end / to a read-only export', 'is ENOSPC / EPERM, with nothing written and the stream in sync', async () => {
    const client = await opened(style);
    const payload = Buffer.alloc(4096, 9);
    expect(await errorOf(client, { command: NBD_CMD_WRITE, offset: SIZE - 4095, payload })).toBe(NBD_ENOSPC);
    expect(await errorOf(client, { command: NBD_CMD_WRITE_ZEROES, offset: SIZE - 4095, length: 4096 })).toBe(NBD_ENOSPC);
    expect((await client.read(SIZE - 4096, 4096)).includes(9)).toBe(false);
    const locked = await opened(style, [], 'locked');
    expect(flagsOf(locked) & NBD_FLAG_READ_ONLY).not.toBe(0);
    expect(await errorOf(locked, { command: NBD_CMD_WRITE, offset: 0, payload })).toBe(NBD_EPERM);
    for (const command of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES]) expect(await errorOf(locked, { command, offset: 0, length: 4096 })).toBe(NBD_EPERM);
    expect((await locked.read(0, 4096)).equals(Buffer.alloc(4096))).toBe(true);
  });

  row('a WRITE of 33 MiB', 'is an error, and the stream stays in sync', async () => {
    const client = await opened(style);
    await client.trim(0, SIZE);
    expect(await errorOf(client, { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(33 * MIB, 3) })).toBe(NBD_EINVAL);
    expect((await client.read(0, MIB)).equals(Buffer.alloc(MIB))).toBe(true);
  });

  row('requests in flight of one connection', '256, more than half of them answered by one sync', async () => {
    const client = await opened(style);
    await client.flush();
    const before = await logSyncs();
    const requests = Array.from({ length: 256 }, (_, index): AskedRequest => ({ command: NBD_CMD_WRITE_ZEROES, offset: index * 8192, length: 4096, flags: NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE }));
    const replies = await allAtOnce(client, requests);
    expect(replies.map(({ error }) => error)).toEqual(requests.map(() => 0));
    expect((await logSyncs()) - before).toBeLessThanOrEqual(2);
  });

  row('half-close: what is outstanding is answered', 'all of it', async () => {
    const client = await opened(style);
    const writes = Array.from({ length: 60 }, (_, index): AskedRequest => ({ command: NBD_CMD_WRITE, offset: index * 4096, payload: Buffer.alloc(4096, index + 1), flags: NBD_CMD_FLAG_FUA }));
    const reads = Array.from({ length: 60 }, (_, index): AskedRequest => ({ command: NBD_CMD_READ, offset: 8 * MIB + index * 100_000, length: 100_000 }));
    const answered = allAtOnce(client, [...writes, ...reads]);
    client.endInput();
    expect((await answered).map(({ error }) => error)).toEqual([...writes, ...reads].map(() => 0));
    await client.expectEnd();
  });
});

/** Sends all in one piece. */
function allAtOnce(client: NbdClient, requests: readonly AskedRequest[]): Promise<Reply[]> {
  client.socket.cork();
  const replies = requests.map((request) => client.request(request));
  client.socket.uncork();
  return Promise.all(replies);
}

async function logSyncs(): Promise<number> {
  const report = await basaltOk('show', 'demo', '--data', server.dataDirectory, '--json');
  return Number(/"logSyncs": (\d+)/.exec(report)?.[1]);
}
