import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NBD_CMD_WRITE } from '../../src/protocol/constants.ts';
import { requestBytes } from '../support/nbd-bytes.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { basalt, basaltOk, BasaltProcess, RealServer } from './real-server.ts';

let server: RealServer;
const clients: NbdClient[] = [];

beforeEach(async () => {
  server = await RealServer.create();
  await server.createVolume('demo', '16M');
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await server.dispose();
});

async function connect(volume = 'demo'): Promise<NbdClient> {
  const client = await NbdClient.open({ path: server.socketPath }, volume);
  clients.push(client);
  return client;
}

const eventsOf = (log: string): unknown[] =>
  log
    .trimEnd()
    .split('\n')
    .map((line) => {
      const entry: unknown = JSON.parse(line);
      return typeof entry === 'object' && entry !== null && 'event' in entry ? entry.event : entry;
    });

describe('serve', () => {
  test('prints one line per listener, logs JSON lines, and ends well at SIGTERM', async () => {
    await server.start('--listen', '[::1]:0');
    const lines = server.process.out.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^listening on nbd:\/\/127\.0\.0\.1:\d+\/$/);
    expect(lines[1]).toMatch(/^listening on nbd:\/\/\[::1\]:\d+\/$/);
    expect(lines[2]).toBe(`listening on nbd+unix:///?socket=${server.socketPath}`);
    const client = await connect();
    await client.write(4096, Buffer.alloc(4096, 7));
    await client.close();
    const { status, error } = await server.stop();
    expect(status).toBe(0);
    const events = eventsOf(error);
    expect(events.at(-1)).toBe('stopped');
    expect(events).toEqual(expect.arrayContaining(['serving', 'volume-opened', 'stopping', 'volume-closed']));
    expect(existsSync(server.socketPath), 'the socket is removed').toBe(false);
  });

  test('prints JSON lines with --json', async () => {
    await server.start('--json');
    const listeners = server.process.out
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    expect(listeners).toEqual([
      { listening: `127.0.0.1:${server.port}`, uri: `nbd://127.0.0.1:${server.port}/` },
      { listening: server.socketPath, uri: `nbd+unix:///?socket=${server.socketPath}` },
    ]);
  });

  test('keeps what was written over a stop and over a kill', async () => {
    await server.start();
    let client = await connect();
    await client.write(1000, Buffer.alloc(5000, 1));
    await client.close();
    await server.stop();
    await server.start();
    client = await connect();
    expect(await client.read(1000, 5000)).toEqual(Buffer.alloc(5000, 1));
    await client.write(3000, Buffer.alloc(9000, 2));
    server.process.signal('SIGKILL');
    await server.process.finished;
    await server.start();
    client = await connect();
    expect(await client.read(1000, 11_001)).toEqual(Buffer.concat([Buffer.alloc(2000, 1), Buffer.alloc(9000, 2), Buffer.alloc(1)]));
  });

  test('serves a volume that is created while it runs, and lets no open one be deleted', async () => {
    await server.start('--engine.idle-close-ms', '0');
    await basaltOk('create', 'late', '8M', '--data', server.dataDirectory);
    const client = await connect('late');
    expect(client.export?.sizeBytes).toBe(8n * 1024n * 1024n);
    const refused = await basalt('delete', 'late', '--yes', '--data', server.dataDirectory);
    expect(refused).toMatchObject({ status: 1, out: '' });
    expect(refused.error).toContain('late is open');
    const listed = await basalt('list', '--data', server.dataDirectory);
    expect(listed.out).toMatch(/^late +8 MiB +batched +.* yes +none$/m);
    await client.close();
    await server.process.waitFor('the volume to be closed', () => server.process.error.includes('volume-closed'));
    expect(await basalt('delete', 'late', '--yes', '--data', server.dataDirectory)).toMatchObject({ status: 0, out: 'deleted late\n' });
    await expect(connect('late')).rejects.toThrow(/late/);
  });

  test('cuts a client that holds it up after the grace time, and still ends well', async () => {
    await server.start('--process.stop-grace-ms', '100');
    await stalledClient();
    expect(await server.stop()).toMatchObject({ status: 0 });
  });

  test('ends at once at the second signal, and loses nothing that was answered', async () => {
    await server.start('--process.stop-grace-ms', '1h');
    const client = await connect();
    await client.write(0, Buffer.alloc(4096, 9));
    await stalledClient();
    server.process.signal('SIGTERM');
    await server.process.waitFor('the stop to begin', () => server.process.error.includes('"stopping"'));
    expect(server.process.ended).toBe(false);
    server.process.signal('SIGTERM');
    expect(await server.process.finished).toMatchObject({ status: 143 });
    await server.start();
    const after = await connect();
    expect(await after.read(0, 16_384), 'half a payload is never applied').toEqual(Buffer.concat([Buffer.alloc(4096, 9), Buffer.alloc(12_288)]));
  });

  test('a second server serves no volume that the first has open, whatever directory it found it in', async () => {
    await server.start();
    await connect();
    const secondSocket = join(server.directory, 'second.sock');
    const secondData = join(server.directory, 'second');
    mkdirSync(secondData);
    symlinkSync(join(server.dataDirectory, 'demo'), join(secondData, 'demo'));
    const second = new BasaltProcess(['serve', '--data', secondData, '--socket', secondSocket]);
    try {
      await second.waitFor('its listener', () => second.out.includes(secondSocket));
      await expect(NbdClient.open({ path: secondSocket }, 'demo')).rejects.toThrow(/open in another process/);
    } finally {
      second.signal('SIGTERM');
      expect(await second.finished).toMatchObject({ status: 0 });
    }
  });
});

/** Begins a write whose payload never comes whole. */
async function stalledClient(): Promise<void> {
  const client = await connect();
  client.send(requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8, 1), offset: 4096, length: 8192 }));
  client.send(Buffer.alloc(100, 5));
  // An answered request on another connection: the server has had a turn since the bytes were sent.
  await (await connect()).flush();
}

function serve(...words: string[]): ReturnType<typeof basalt> {
  return basalt('serve', '--data', server.dataDirectory, ...words);
}

describe('serve does not start, says why and exits with', () => {
  test('1 when the address is taken', async () => {
    await server.start();
    const other = join(server.directory, 'other');
    mkdirSync(other);
    const { status, error, out } = await basalt('serve', '--data', other, '--listen', `127.0.0.1:${server.port}`);
    expect({ status, out }).toEqual({ status: 1, out: '' });
    expect(error).toContain(`basalt: cannot listen on 127.0.0.1:${server.port}: it is in use`);
    expect(readdirSync(other), 'it leaves no control socket').toEqual(['.control.lock']);
    const socket = await basalt('serve', '--data', other, '--socket', server.socketPath);
    expect(socket.status).toBe(1);
    expect(existsSync(server.socketPath), "the first server's socket stays").toBe(true);
  });

  test('1 when the directory or the config file is not there', async () => {
    const directory = await basalt('serve', '--data', join(server.directory, 'none'), '--json');
    expect(directory.status).toBe(1);
    expect(JSON.parse(directory.error)).toMatchObject({ error: { code: 'not-found' } });
    const config = await serve('--config', join(server.directory, 'none.toml'));
    expect(config.status).toBe(1);
    expect(config.error).toContain('none.toml is not there');
  });

  test('2 when an address, a setting or a file of settings is wrong', async () => {
    const file = join(server.directory, 'bad.toml');
    writeFileSync(file, '[engine]\narena_size = 3\n');
    const cases = [
      { words: ['--listen', 'localhost'], message: 'address "localhost" is not understood' },
      { words: ['--config', file], message: `${file}: engine.arena_size: no such setting; did you mean engine.arena_bytes?` },
      { words: ['--set', 'server.max_connections=0'], message: 'flag --set: server.max_connections: 0 is out of range: from 1 to 65536' },
    ];
    for (const { words, message } of cases) {
      const { status, error } = await serve(...words);
      expect(error).toContain(`basalt: ${message}`);
      expect(status).toBe(2);
    }
  });
});

describe('the other verbs', () => {
  test('refuse what cannot be, and leave nothing half-made', async () => {
    const inData = (...words: string[]): ReturnType<typeof basalt> => basalt(...words, '--data', server.dataDirectory);
    const cases = [
      { words: ['create', 'odd', '1000'], exit: 2, message: 'not a multiple of the block size' },
      { words: ['create', 'a/b', '1M'], exit: 2, message: 'has a "/" in it' },
      { words: ['create', 'x', '1M', '--block-size', '5000'], exit: 2, message: 'not a power of two' },
      { words: ['create', 'demo', '1M'], exit: 1, message: 'exists already' },
      { words: ['show', 'dmeo'], exit: 1, message: 'there are: demo' },
      { words: ['delete', 'demo'], exit: 2, message: '--yes' },
    ];
    for (const { words, exit, message } of cases) {
      const { status, error } = await inData(...words);
      expect(error).toContain(message);
      expect(status).toBe(exit);
    }
    expect((await inData('list', '--json')).out).toMatch(/^\[\n {2}\{\n {4}"name": "demo",/);
    expect(readdirSync(server.dataDirectory)).toEqual(['demo']);
  });

  test('end quietly when nobody reads their output', async () => {
    const run = new BasaltProcess(['settings']);
    run.stopReading();
    expect(await run.finished).toMatchObject({ status: 0, error: '' });
  });
});
