import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { PROFILE_NAMES } from '../../src/config/profiles.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { basaltOk, RealServer } from './real-server.ts';

let server: RealServer;
const clients: NbdClient[] = [];

beforeEach(async () => {
  server = await RealServer.create();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await server.dispose();
});

async function connect(): Promise<NbdClient> {
  const client = await NbdClient.open({ path: server.socketPath }, 'demo');
  clients.push(client);
  return client;
}

const profilePath = (name: string): string => join(PROJECT_ROOT, 'config', `${name}.toml`);

test.each(PROFILE_NAMES)('a volume is made, served, written, and found again after a kill, with the settings of %s', async (name) => {
  const settings = ['--config', profilePath(name)];
  await basaltOk('create', 'demo', '1G', '--data', server.dataDirectory, ...settings);
  await server.start(...settings);
  const bytes = Buffer.alloc(MIB, 'some of it again and again, ');
  let client = await connect();
  await client.write(4 * MIB, bytes);
  await client.flush();
  server.process.signal('SIGKILL');
  await server.process.finished;
  await server.start(...settings);
  client = await connect();
  expect((await client.read(4 * MIB, MIB)).equals(bytes)).toBe(true);
  await client.close();
  const { status, error } = await server.stop();
  expect(status, error).toBe(0);
});

/** Bytes of memory that a process of this machine has now. */
function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * KIB;
}

test('a server at rest with the profile for cards has less than 150 MiB, with a volume of 32 GiB open', async () => {
  const settings = ['--config', profilePath('jetson-sd')];
  await basaltOk('create', 'demo', '32G', '--data', server.dataDirectory, ...settings);
  await server.start(...settings);
  const client = await connect();
  await client.write(16 * GIB, Buffer.alloc(4 * KIB, 1));
  await client.flush();
  expect(residentBytes(server.process.pid)).toBeLessThan(150 * MIB);
  await client.close();
});
