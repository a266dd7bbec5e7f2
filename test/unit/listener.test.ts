import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { listen, parseTcpAddress } from '../../src/server/listener.ts';

describe('an address', () => {
  test.each([
    ['127.0.0.1:10809', '127.0.0.1', 10809],
    ['localhost:0', 'localhost', 0],
    ['[::1]:10809', '::1', 10809],
    ['[::]:65535', '::', 65535],
  ])('%s is understood', (text, host, port) => {
    expect(parseTcpAddress(text)).toEqual({ kind: 'tcp', host, port });
  });

  test.each(['', '10809', ':10809', 'host', 'host:', 'host:65536', 'host:1x', '::1:10809', '[::1]', '[host]:1', '[::1]:-1'])('"%s" is not', (text) => {
    expect(() => parseTcpAddress(text)).toThrow(/write HOST:PORT/);
  });
});

describe('a listener', () => {
  let folder = '';
  const servers: net.Server[] = [];
  const server = (): net.Server => {
    const made = net.createServer();
    servers.push(made);
    return made;
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'basalt-listener-'));
  });

  afterEach(async () => {
    for (const { listening, close } of servers.splice(0).map((each) => ({ listening: each.listening, close: () => each.close() }))) if (listening) close();
    await rm(folder, { recursive: true });
  });

  test('tells the port that it got, and the URI', async () => {
    const { name, uri, address } = await listen(server(), { kind: 'tcp', host: '127.0.0.1', port: 0 });
    expect(name).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    expect(uri).toBe(`nbd://${name}/`);
    expect(address).toMatchObject({ kind: 'tcp', host: '127.0.0.1' });
  });

  test('on IPv6 has its address in brackets', async () => {
    const { name, uri } = await listen(server(), { kind: 'tcp', host: '::1', port: 0 });
    expect(name).toMatch(/^\[::1\]:[1-9]\d*$/);
    expect(uri).toBe(`nbd://${name}/`);
  });

  test('on a unix socket escapes its path', async () => {
    const path = join(folder, 'a b&c');
    expect((await listen(server(), { kind: 'unix', path })).uri).toBe(`nbd+unix:///?socket=${folder}/a%20b%26c`);
  });

  test('is refused an address that is taken', async () => {
    const { address } = await listen(server(), { kind: 'tcp', host: '127.0.0.1', port: 0 });
    await expect(listen(server(), address)).rejects.toMatchObject({ code: 'in-use' });
    const path = join(folder, 's');
    await listen(server(), { kind: 'unix', path });
    await expect(listen(server(), { kind: 'unix', path })).rejects.toMatchObject({ code: 'in-use' });
    expect(existsSync(path)).toBe(true);
  });

  test('is refused an address that is none', async () => {
    await expect(listen(server(), { kind: 'unix', path: join(folder, 'no', 'such') })).rejects.toMatchObject({ code: 'io-error' });
  });

  test('replaces the socket of a server that was killed', async () => {
    const path = join(folder, 's');
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('ready'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    await expect(listen(server(), { kind: 'unix', path })).rejects.toMatchObject({ code: 'in-use' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(path)).toBe(true);
    await listen(server(), { kind: 'unix', path });
    const probe = net.connect({ path });
    await once(probe, 'connect');
    probe.destroy();
  });

  test('never replaces a file that is no socket', async () => {
    const path = join(folder, 'precious');
    await writeFile(path, 'data');
    await expect(listen(server(), { kind: 'unix', path })).rejects.toMatchObject({ code: 'in-use' });
    expect(existsSync(path)).toBe(true);
  });

  test('removes its socket when it closes', async () => {
    const path = join(folder, 's');
    const made = server();
    await listen(made, { kind: 'unix', path });
    made.close();
    await once(made, 'close');
    expect(existsSync(path)).toBe(false);
  });
});
