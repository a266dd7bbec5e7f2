import { afterAll, beforeAll, describe, expect } from 'vitest';
import { RealServer } from './real-server.ts';
import { interopTest, runOk } from './tools.ts';

let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('alpha', '4M');
  await server.createVolume('beta', '4M');
  await server.start();
});
afterAll(() => server.dispose());

describe('nbd-client', () => {
  // It reads each reply with one read call: a reply in two pieces breaks it.
  interopTest(['nbd-client'], 'lists the exports over tcp', async () => {
    const out = await runOk('nbd-client', '-l', '127.0.0.1', String(server.port));
    expect(out).toMatch(/^alpha/m);
    expect(out).toMatch(/^beta/m);
  });

  interopTest(['nbd-client'], 'lists the exports over a unix socket', async () => {
    const out = await runOk('nbd-client', '-l', '-unix', server.socketPath);
    expect(out).toMatch(/^alpha/m);
    expect(out).toMatch(/^beta/m);
  });
});
