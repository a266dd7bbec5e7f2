/** `make resize-worlds`: resized volumes, as `resize-world.ts` and, with a bucket, `remote-resize-world.ts` have them. */
import { parseArgs } from 'node:util';
import { RemoteResizeWorld, noRemoteResizeCounts } from './remote-resize-world.ts';
import { ResizeWorld, noResizeCounts } from './resize-world.ts';

const { values } = parseArgs({ options: { first: { type: 'string', default: '1' }, seeds: { type: 'string', default: '200' } } });
const sums = noResizeCounts();
const remoteSums = noRemoteResizeCounts();
let current = '';
// A broken assertion ends the world, and says so as other failures do.
process.on('uncaughtException', (error) => {
  console.error(`${current}:`, error);
  process.exit(1);
});
const first = Number(values.first);
for (let seed = first; seed < first + Number(values.seeds); seed += 1) {
  try {
    current = `seed ${seed}`;
    const counts = await new ResizeWorld(seed).run();
    sums.crashes += counts.crashes;
    sums.grown += counts.grown;
    sums.shrunk += counts.shrunk;
    sums.interrupted += counts.interrupted;
    sums.effective += counts.effective;
    current = `seed ${seed} with a bucket`;
    const remote = await new RemoteResizeWorld(seed).run();
    for (const key of ['crashes', 'grown', 'shrunk', 'refused', 'drains', 'restored', 'older'] as const) remoteSums[key] += remote[key];
  } catch (error) {
    console.error(`${current}:`, error);
    process.exit(1);
  }
}
console.log(`${values.seeds} worlds: ${JSON.stringify(sums)}; with a bucket: ${JSON.stringify(remoteSums)}`);
