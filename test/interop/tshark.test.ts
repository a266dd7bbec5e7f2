/** Wireshark's dissector reads whole sessions: it was written from the document by others, and says "malformed" where it is at a loss. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Recorder } from './capture.ts';
import { RealServer } from './real-server.ts';
import { interopTest, runOk } from './tools.ts';

let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('demo', '16M');
  await server.start();
});
afterAll(() => server.dispose());

/** What the dissector knows: READ, WRITE and DISC without flags, simple replies without errors. Sizes from one byte to several packets. */
const PLAIN = [
  'sizes = [1, 512, 4096, 100000, 300001]',
  'for size in sizes: h.pwrite(b"x" * size, 4096)',
  'for size in sizes: assert len(h.pread(size, 0)) == size',
  'h.shutdown()',
].join('\n');
const WRITE = 1;
const READ = 0;
const DISC = 2;

const ALL = [
  'h.pwrite(b"x" * 100000, 4096)',
  'h.pwrite(b"y" * 512, 0, nbd.CMD_FLAG_FUA)',
  'h.pread(100000, 4096)',
  'h.zero(65536, 65536, nbd.CMD_FLAG_NO_HOLE)',
  'h.trim(4096, 8192)',
  'h.cache(65536, 0)',
  'h.flush()',
  'h.set_strict_mode(0)',
  'try:',
  '  h.pread(512, h.get_size())',
  '  raise SystemExit("no error")',
  'except nbd.Error: pass',
  'h.shutdown()',
].join('\n');

/** Records a session and returns the path of its capture. */
async function capture(name: string, before: string, script: string): Promise<string> {
  const recorder = await Recorder.to(server.socketPath);
  await runOk('nbdsh', '-c', before, '-c', `h.connect_uri("nbd://127.0.0.1:${recorder.port}/demo")`, '-c', script);
  const path = join(server.directory, `${name}.pcap`);
  await recorder.save(path);
  return path;
}

/** The values of fields in the packets that match a filter. */
async function fields(path: string, filter: string, ...names: string[]): Promise<string[][]> {
  const text = await runOk('tshark', '-r', path, '-Y', filter, '-T', 'fields', ...names.flatMap((name) => ['-e', name]));
  return text.split('\n').slice(0, -1).map((line) => line.split('\t'));
}

describe('tshark', () => {
  interopTest(['tshark', 'nbdsh'], 'decodes each read and write and finds its answer', async () => {
    const path = await capture('plain', 'h.set_request_structured_replies(False)', PLAIN);
    expect(await runOk('tshark', '-r', path, '-Y', '_ws.malformed')).toBe('');
    const requests = await fields(path, 'nbd.magic == 0x25609513', 'frame.number', 'nbd.type', 'nbd.len');
    const sizes = ['1', '512', '4096', '100000', '300001'];
    expect(requests.map(([, type, length]) => [Number(type), length])).toEqual([...sizes.map((size) => [WRITE, size]), ...sizes.map((size) => [READ, size]), [DISC, '0']]);
    const answers = await fields(path, 'nbd.magic == 0x67446698', 'nbd.response_to', 'nbd.error');
    expect(answers).toEqual(requests.slice(0, -1).map(([frame]) => [frame, '0']));
  });

  for (const structured of ['False', 'True']) {
    interopTest(['tshark', 'nbdsh'], `finds nothing malformed in a session of all commands, structured replies: ${structured}`, async () => {
      const path = await capture(`all-${structured}`, `h.set_request_structured_replies(${structured})`, ALL);
      expect(await runOk('tshark', '-r', path, '-Y', '_ws.malformed')).toBe('');
      expect((await fields(path, 'tcp', 'frame.number')).length).toBeGreaterThan(10);
    });
  }
});
