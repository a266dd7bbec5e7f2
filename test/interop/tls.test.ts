/** TLS with the clients of other projects, and the ways in that are not a listener of our own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Issued, issueCertificate, makeAuthority } from '../../src/cli/make-pki.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { TestPki, VALID } from '../support/test-pki.ts';
import { basalt, RealServer } from './real-server.ts';
import { interopTest, runOk, runTool, type ToolResult } from './tools.ts';

const MIB = 1024 * 1024;
const ENTRY = join(PROJECT_ROOT, 'dist/cli/basalt.cjs');
let pki: TestPki;
let strangers: TestPki;
let server: RealServer;

beforeAll(async () => {
  [pki, strangers] = await Promise.all([TestPki.create(), TestPki.create()]);
  await writeFile(join(pki.directory, 'keys.psk'), `alice:${'5a'.repeat(32)}\n`);
  await writeFile(join(strangers.directory, 'keys.psk'), `alice:${'a5'.repeat(32)}\n`);
  // Of another authority, but trusting ours: the refusal must be the server's.
  await strangers.write('ca', pki.authority);
});
afterAll(async () => {
  await pki.dispose();
  await strangers.dispose();
});
afterEach(() => server.dispose());

async function start(...flags: string[]): Promise<void> {
  server = await RealServer.create();
  await server.createVolume('demo', '16M');
  await server.start(...flags);
}

const x509 = (...flags: string[]): string[] => ['--server.tls', 'forced', '--server.tls-certificates', pki.directory, ...flags];
const psk = (): string[] => ['--server.tls', 'forced', '--server.tls-psk-file', join(pki.directory, 'keys.psk')];

function uris(query: string, user = ''): string[] {
  return [`nbds://${user}127.0.0.1:${server.port}/demo?${query}`, `nbds+unix://${user}/demo?socket=${server.socketPath}&tls-hostname=localhost&${query}`];
}

const objects = (directory: string): string => `tls-creds-x509,id=t,dir=${directory},endpoint=client`;

function qemuImg(credentials: string, options: readonly string[]): Promise<ToolResult> {
  const image = `driver=nbd,host=127.0.0.1,port=${server.port},export=demo,tls-creds=t${options.map((option) => `,${option}`).join('')}`;
  return runTool('qemu-img', ['info', '--object', credentials, '--image-opts', image]);
}

describe('X.509', () => {
  interopTest(['nbdinfo', 'nbdcopy', 'nbdkit'], 'libnbd copies in and back, over tcp and a unix socket', async () => {
    await start(...x509());
    for (const [index, uri] of uris(`tls-certificates=${pki.directory}`).entries()) {
      expect((await runOk('nbdinfo', '--size', uri)).trim()).toBe(String(16 * MIB));
      const source = ['--', '[', 'nbdkit', '--exit-with-parent', 'sparse-random', '16M', `seed=${index}`, 'percent=60', ']'];
      await runOk('nbdcopy', '--connections=4', '--flush', ...source, uri);
      await runOk('nbdcopy', '--connections=4', uri, ...source);
    }
  });

  interopTest(['nbdinfo'], 'a client of another authority is refused, and one of ours is not', async () => {
    await start(...x509('--server.tls-verify-peer', 'true'));
    for (const uri of uris(`tls-certificates=${pki.directory}`)) await runOk('nbdinfo', uri);
    for (const uri of uris(`tls-certificates=${strangers.directory}`)) expect((await runTool('nbdinfo', [uri])).status).not.toBe(0);
    expect(server.process.error).toContain('"tls-failed"');
  });

  interopTest(['nbdinfo'], 'nobody gets anything without it', async () => {
    await start(...x509());
    const { status, error } = await runTool('nbdinfo', [server.tcp('demo')]);
    expect(status).not.toBe(0);
    expect(error).toMatch(/not supported|TLS/);
  });

  interopTest(['qemu-img'], 'qemu-img opens a volume, and a stranger cannot', async () => {
    await start(...x509('--server.tls-verify-peer', 'true'));
    const { status, out, error } = await qemuImg(objects(pki.directory), []);
    expect(status, error).toBe(0);
    expect(out).toContain('virtual size: 16 MiB');
    expect((await qemuImg(objects(strangers.directory), [])).status).not.toBe(0);
  });
});

interopTest(['certtool'], 'a certificate that ca-crl.pem calls back is refused from the next SIGHUP on, and others are not', async () => {
  const own = await TestPki.create();
  try {
    await start('--server.tls', 'forced', '--server.tls-certificates', own.directory, '--server.tls-verify-peer', 'true');
    const connect = async ({ certificate, key }: Issued): Promise<void> => {
      const client = await NbdClient.connect({ host: '127.0.0.1', port: server.port });
      await client.greet();
      await client.startTls({ ca: [own.authority.certificate], servername: 'localhost', cert: certificate, key });
      await client.go('demo');
      await client.close();
    };
    const other = await own.issue({ name: 'bob' });
    await connect(own.client);
    const file = (name: string): string => join(own.directory, name);
    await writeFile(file('template'), 'crl_next_update = 30\ncrl_number = 1\n');
    await runOk('certtool', '--generate-crl', '--load-ca-privkey', file('ca-key.pem'), '--load-ca-certificate', file('ca-cert.pem'), '--load-certificate', file('client-cert.pem'), '--template', file('template'), '--outfile', file('ca-crl.pem'));
    server.process.signal('SIGHUP');
    await server.process.waitFor('the list to be read', () => server.process.error.includes('"tls-reloaded"'));
    await expect(connect(own.client)).rejects.toBeInstanceOf(Error);
    await connect(other);
    expect(server.process.error).toContain('CERT_REVOKED');
  } finally {
    await own.dispose();
  }
});

describe('pre-shared keys', () => {
  interopTest(['nbdinfo', 'nbdcopy'], 'libnbd reads with the right key, and not with another', async () => {
    await start(...psk());
    for (const uri of uris(`tls-psk-file=${join(pki.directory, 'keys.psk')}`, 'alice@')) {
      expect((await runOk('nbdinfo', '--size', uri)).trim()).toBe(String(16 * MIB));
      await runOk('nbdcopy', uri, 'null:');
    }
    for (const uri of uris(`tls-psk-file=${join(strangers.directory, 'keys.psk')}`, 'alice@')) expect((await runTool('nbdinfo', [uri])).status).not.toBe(0);
  });

  interopTest(['nbdinfo'], 'beside certificates, libnbd gets its name by its key', async () => {
    const config = join(pki.directory, 'basalt.toml');
    await writeFile(config, '[exports.demo]\ntls_names = ["alice"]\n');
    await start(...x509('--server.tls-psk-file', join(pki.directory, 'keys.psk'), '--config', config));
    for (const uri of uris(`tls-psk-file=${join(pki.directory, 'keys.psk')}`, 'alice@')) await runOk('nbdinfo', uri);
    for (const uri of uris(`tls-certificates=${pki.directory}`)) expect((await runTool('nbdinfo', [uri])).status).not.toBe(0);
  });

  interopTest(['qemu-img'], 'qemu-img opens a volume', async () => {
    await start(...psk());
    const { status, error } = await qemuImg(`tls-creds-psk,id=t,dir=${pki.directory},username=alice,endpoint=client`, []);
    expect(status, error).toBe(0);
  });

  interopTest(['psktool', 'nbdinfo'], 'the file that psktool makes is understood', async () => {
    const keys = join(pki.directory, 'made.psk');
    await runOk('psktool', '-u', 'bob', '-p', keys);
    await start('--server.tls', 'forced', '--server.tls-psk-file', keys);
    for (const uri of uris(`tls-psk-file=${keys}`, 'bob@')) await runOk('nbdinfo', uri);
  });
});

test('SIGHUP changes the certificate for new connections alone, and a bad one is refused with a line in the log', async () => {
  const own = await TestPki.create();
  try {
    await start('--server.tls', 'forced', '--server.tls-certificates', own.directory);
    const connect = async (): Promise<{ client: NbdClient; shown: string }> => {
      const client = await NbdClient.connect({ host: '127.0.0.1', port: server.port });
      await client.greet();
      const socket = await client.startTls({ ca: [own.authority.certificate], servername: 'localhost' });
      await client.go('demo');
      return { client, shown: socket.getPeerX509Certificate()?.fingerprint256 ?? '' };
    };
    const first = await connect();
    await own.write('server', await own.issue({ name: 'localhost', purpose: 'server', altNames: ['localhost'] }));
    server.process.signal('SIGHUP');
    await server.process.waitFor('the certificates to be read', () => server.process.error.includes('"tls-reloaded"'));
    const second = await connect();
    expect(second.shown).not.toBe(first.shown);
    await own.write('server', await issueCertificate(await makeAuthority('x', VALID), { name: 'x', purpose: 'server', altNames: [], validity: { fromMs: 0, toMs: 1000 } }));
    server.process.signal('SIGHUP');
    await server.process.waitFor('the bad one to be refused', () => server.process.error.includes('"tls-not-reloaded"'));
    expect(server.process.error).toContain('server-cert.pem expired on');
    const third = await connect();
    expect(third.shown).toBe(second.shown);
    for (const { client } of [first, second, third]) {
      await client.write(0, Buffer.alloc(4096, 1));
      await client.close();
    }
  } finally {
    await own.dispose();
  }
});

describe('other ways in', () => {
  interopTest(['nbdinfo', 'nbdsh'], 'standard input serves the client that started it, and ends with it', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '16M');
    const command = [process.execPath, ENTRY, 'serve', '--stdio', '--data', server.dataDirectory];
    const script = `
h.connect_command([${command.map((word) => JSON.stringify(word)).join(', ')}])
h.pwrite(b"x" * 100000, 5)
assert bytes(h.pread(100000, 5)) == b"x" * 100000
h.shutdown()
`;
    for (let round = 0; round < 2; round += 1) await runOk('nbdsh', '-c', script); // the second one finds the directory free
  });

  test('standard input that is standard error as well, as inetd has it, hears nothing but NBD', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '16M');
    const inetd = net.createServer({ pauseOnConnect: true }, (socket) => {
      const child = spawn(process.execPath, [ENTRY, 'serve', '--stdio', '--log-level', 'debug', '--data', server.dataDirectory], { stdio: [socket, socket, socket] });
      exits.push(once(child, 'exit'));
      socket.destroy();
    });
    const exits: Promise<unknown>[] = [];
    inetd.listen(0, '127.0.0.1');
    await once(inetd, 'listening');
    const address = inetd.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    const client = await NbdClient.open({ host: '127.0.0.1', port: address.port }, 'demo');
    await client.write(0, Buffer.alloc(100_000, 7));
    expect((await client.read(99_990, 20)).equals(Buffer.concat([Buffer.alloc(10, 7), Buffer.alloc(10)]))).toBe(true);
    await client.close();
    expect(await exits[0]).toEqual([0, null]);
    inetd.close();
  });

  test('standard input that is no socket is refused', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '16M');
    const { status, out, error } = await basalt('serve', '--stdio', '--data', server.dataDirectory);
    expect([status, out]).toEqual([2, '']);
    expect(error).toContain('needs a socket as standard input');
  });

  interopTest(['nbdinfo'], 'a client that starts it with an open socket is served there', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '16M');
    const out = await runOk('nbdinfo', '--size', '--', '[', process.execPath, ENTRY, 'serve', '--data', server.dataDirectory, ']');
    expect(out.trim().split('\n').at(-1)).toBe(String(16 * MIB));
  });

  interopTest(['systemd-socket-activate'], 'several sockets that systemd has opened', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '16M');
    const paths = ['a', 'b'].map((name) => join(server.directory, `${name}.sock`));
    const child = spawn('systemd-socket-activate', [...paths.flatMap((path) => ['-l', path]), process.execPath, ENTRY, 'serve', '--data', server.dataDirectory], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = once(child, 'exit');
    try {
      while (!existsSync(paths[1])) await once(child.stderr, 'data');
      for (const path of paths) {
        const client = await NbdClient.open({ path }, 'demo');
        expect(await client.read(0, 10)).toHaveLength(10);
        await client.close();
      }
    } finally {
      child.kill('SIGTERM');
    }
    expect(await ended).toEqual([0, null]);
  });

  interopTest(['nbdinfo'], 'an abstract socket', async () => {
    const name = `basalt-interop-${process.pid}`;
    await start('--socket', `@${name}`);
    expect(server.process.out).toContain(`nbd+unix:///?socket=%00${name}`);
    const client = await NbdClient.open({ path: `\0${name}` }, 'demo');
    await client.close();
  });
});
