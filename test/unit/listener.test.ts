import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { listen as listenWith, type ListenAddress, type ListenerInfo, type ListenSettings, parseSocketPath, parseTcpAddress } from '../../src/server/listener.ts';

const SETTINGS: ListenSettings = { socketMode: '0600', socketOwner: '', tls: 'off' };
const listen = (server: net.Server, address: ListenAddress, settings: Partial<ListenSettings> = {}): Promise<ListenerInfo> => listenWith(server, address, { ...SETTINGS, ...settings });

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

describe('the path of a unix socket', () => {
  test('may be that of a file or @NAME', () => {
    expect(parseSocketPath('/run/a b')).toEqual({ kind: 'unix', path: '/run/a b' });
    expect(parseSocketPath('@basalt')).toEqual({ kind: 'unix', path: '\0basalt' });
  });

  test.each(['', '@', '/a\0b', '@a\0b'])('%j is none', (text) => {
    expect(() => parseSocketPath(text)).toThrow(/write its path, or @NAME/);
  });
});

test('vsock is refused with what to do instead', () => {
  expect(() => parseTcpAddress('vsock:2:10809')).toThrow(/Node has no vsock sockets; put a relay in front/);
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

  test.each([
    ['0600', 0o600],
    ['666', 0o666],
    ['0000', 0],
  ])('gives its socket the mode %s, whatever the umask', async (socketMode, mode) => {
    const path = join(folder, 's');
    const umask = process.umask(0o077);
    try {
      await listen(server(), { kind: 'unix', path }, { socketMode });
    } finally {
      expect(process.umask(umask)).toBe(0o077);
    }
    expect((await stat(path)).mode & 0o777).toBe(mode);
  });

  test.skipIf(process.getuid?.() !== 0)('gives its socket an owner, by name or number', async () => {
    const path = join(folder, 's');
    await listen(server(), { kind: 'unix', path }, { socketOwner: 'nobody:7' });
    expect(await stat(path)).toMatchObject({ gid: 7 });
    expect((await stat(path)).uid).not.toBe(0);
    const other = join(folder, 't');
    await listen(server(), { kind: 'unix', path: other }, { socketOwner: ':12' });
    expect(await stat(other)).toMatchObject({ uid: 0, gid: 12 });
  });

  test('whose owner does not exist does not listen', async () => {
    const path = join(folder, 's');
    const made = server();
    await expect(listen(made, { kind: 'unix', path }, { socketOwner: 'no-such-user' })).rejects.toMatchObject({ code: 'not-found', message: 'server.socket_owner: there is no user "no-such-user"' });
    expect(made.listening).toBe(false);
  });

  test('without a file has a name of its own', async () => {
    const name = `basalt-test-${process.pid}`;
    const info = await listen(server(), parseSocketPath(`@${name}`));
    expect(info).toMatchObject({ name: `@${name}`, uri: `nbd+unix:///?socket=%00${name}` });
    const probe = net.connect({ path: `\0${name}` });
    await once(probe, 'connect');
    probe.destroy();
    await expect(listen(server(), parseSocketPath(`@${name}`))).rejects.toMatchObject({ code: 'in-use', message: `cannot listen on @${name}: it is in use by another program` });
  });

  test('where TLS is forced says so in its URI', async () => {
    expect((await listen(server(), { kind: 'tcp', host: '127.0.0.1', port: 0 }, { tls: 'forced' })).uri).toMatch(/^nbds:\/\/127/);
    expect((await listen(server(), { kind: 'unix', path: join(folder, 's') }, { tls: 'forced' })).uri).toMatch(/^nbds\+unix:/);
    expect((await listen(server(), { kind: 'tcp', host: '127.0.0.1', port: 0 }, { tls: 'selective' })).uri).toMatch(/^nbd:/);
  });

  test('on a descriptor that is no socket is refused', async () => {
    await expect(listen(server(), { kind: 'fd', fd: 999 })).rejects.toThrow(/^cannot listen on descriptor 999: /);
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
