/** `make resize-worlds`: resized volumes, as `resize-world.ts` has them. */
import { parseArgs } from 'node:util';
import { ResizeWorld, noResizeCounts } from './resize-world.ts';

const { values } = parseArgs({ options: { first: { type: 'string', default: '1' }, seeds: { type: 'string', default: '200' } } });
const sums = noResizeCounts();
const first = Number(values.first);
for (let seed = first; seed < first + Number(values.seeds); seed += 1) {
  try {
    const counts = await new ResizeWorld(seed).run();
    sums.crashes += counts.crashes;
    sums.grown += counts.grown;
    sums.shrunk += counts.shrunk;
    sums.interrupted += counts.interrupted;
    sums.effective += counts.effective;
  } catch (error) {
    console.error(`seed ${seed}:`, error);
    process.exit(1);
  }
}
console.log(`${values.seeds} worlds: ${JSON.stringify(sums)}`);
