/** The metrics and the alert rules, as Prometheus' own tool takes them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import type { ControlServer } from '../../src/control/control-server.ts';
import { NamedVolumes, exchangeRaw, someTraffic, startControl } from '../support/control-harness.ts';
import { MemoryLogger } from '../support/fake-world.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { interopTest, runTool } from './tools.ts';

let directory: string;
let server: ControlServer;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-prometheus-'));
  server = await startControl({ directory, volumes: new NamedVolumes(), logger: new MemoryLogger(), traffic: someTraffic() });
});
afterEach(async () => {
  await server.stop();
  await rm(directory, { recursive: true });
});

async function scrape(): Promise<string> {
  const answer = await exchangeRaw(join(directory, 'control.sock'), 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  return answer.slice(answer.indexOf('\r\n\r\n') + 4);
}

interopTest(['promtool'], 'promtool finds nothing wrong with /metrics', async () => {
  const text = await scrape();
  expect(text).toContain('basalt_request_duration_seconds_bucket');
  expect(await runTool('promtool', ['check', 'metrics'], text)).toEqual({ status: 0, out: '', error: '' });
  // Seen to look: a type that is none.
  expect((await runTool('promtool', ['check', 'metrics'], text.replace(/^# TYPE (\S+) counter$/mu, '# TYPE $1 cuonter'))).status).not.toBe(0);
});

interopTest(['promtool'], 'promtool takes the alert rules', async () => {
  const { status, out } = await runTool('promtool', ['check', 'rules', join(PROJECT_ROOT, 'monitoring/alerts.yml')]);
  expect(out).toMatch(/SUCCESS: 10 rules found/u);
  expect(status).toBe(0);
});
