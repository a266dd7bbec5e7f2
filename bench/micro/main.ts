/** `make bench-micro`: what the parts of the data path cost, one operation at a time. */
import { Bench } from 'tinybench';
import { MIB } from '../../src/base/units.ts';
import { renderTable } from '../report.ts';
import { arenaSuite } from './arena.ts';
import { chunkSuite } from './chunk.ts';
import { codecSuite } from './codec.ts';
import { indexSuite } from './index.ts';
import { logSuite } from './log.ts';
import type { MicroSuite } from './suite.ts';

const SUITES: Readonly<Record<string, () => MicroSuite | Promise<MicroSuite>>> = {
  codec: codecSuite,
  arena: arenaSuite,
  chunk: chunkSuite,
  index: indexSuite,
  log: logSuite,
};

const TIME_MS = 300;

async function main(): Promise<void> {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((name) => !(name in SUITES));
  if (unknown !== undefined) throw new Error(`no suite "${unknown}": ${Object.keys(SUITES).join(', ')}`);
  const rows = [['one operation, median', 'ns', 'per second', 'MiB/s']];
  for (const [name, prepare] of Object.entries(SUITES)) {
    if (wanted.length === 0 || wanted.includes(name)) rows.push(...(await runSuite(await prepare())));
  }
  process.stdout.write(`${renderTable(rows)}\n`);
}

async function runSuite(suite: MicroSuite): Promise<string[][]> {
  try {
    const bench = new Bench({ time: TIME_MS, warmupTime: TIME_MS / 3, throws: true });
    for (const task of suite.tasks) bench.add(task.name, task.run);
    await bench.run();
    return suite.tasks.map((task) => {
      const result = bench.getTask(task.name)?.result;
      if (result === undefined || !('latency' in result)) throw new Error(`"${task.name}" has no result`);
      return row(`${suite.name}: ${task.name}`, result.latency.p50 / task.operations, task.bytes / task.operations);
    });
  } finally {
    await suite.close?.();
  }
}

/** `latencyMs` and `bytes` of one operation. */
function row(name: string, latencyMs: number, bytes: number): string[] {
  const perSecond = 1000 / latencyMs;
  return [name, (latencyMs * 1e6).toFixed(latencyMs < 1e-4 ? 1 : 0), Math.round(perSecond).toLocaleString('en'), bytes === 0 ? '' : ((bytes * perSecond) / MIB).toFixed(0)];
}

main().catch((error: unknown) => {
  process.stderr.write(`bench-micro: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
