/** `make remote-worlds`: worlds of volumes with a bucket, from SEED on, SEEDS of them. */
import { parseArgs } from 'node:util';
import { RemoteWorld } from './remote-world.ts';

const { values } = parseArgs({ options: { first: { type: 'string', default: '1' }, seeds: { type: 'string', default: '200' }, trace: { type: 'boolean', default: false } } });
const first = Number(values.first);
const seeds = Number(values.seeds);
const totals = { takeovers: 0, restarts: 0, drains: 0, fenced: 0, changes: 0, rotten: 0, followed: 0, streamed: 0 };
const startMs = performance.now();
let current = first;
// A broken assertion ends the world, and says so as other failures do.
process.on('uncaughtException', (error) => {
  console.log(`remote seed ${current} fails at a broken assertion: ${error.stack ?? error.message}`);
  process.exit(1);
});
for (let seed = first; seed < first + seeds; seed += 1) {
  current = seed;
  try {
    const report = await new RemoteWorld(seed, values.trace ? (line) => console.log(line) : null).run();
    totals.takeovers += report.takeovers;
    totals.restarts += report.restarts;
    totals.drains += report.drains;
    totals.fenced += report.fenced;
    totals.changes += report.changes;
    totals.rotten += report.rotten;
    totals.followed += report.followed;
    totals.streamed += report.streamed;
  } catch (error) {
    console.log(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
    break;
  }
  if (seed % 20 === 0) process.stderr.write(`${seed - first + 1} of ${seeds} worlds, ${JSON.stringify(totals)}, ${((performance.now() - startMs) / 1000).toFixed(0)} s\n`);
}
console.log(JSON.stringify(totals));
