/** `make exhaustive`: crashes the script everywhere, in every durability mode; `--decided N` and `--step N` make it smaller. */
import { parseArgs } from 'node:util';
import { DURABILITY_MODES } from '../../src/base/durability.ts';
import { LOG_WAYS } from '../../src/base/settings-types.ts';
import { crashEverywhere } from './exhaustive.ts';
import { realEngine } from './real-engine.ts';

const { values } = parseArgs({ options: { decided: { type: 'string', default: '6' }, step: { type: 'string', default: '1' }, mode: { type: 'string', multiple: true } } });
const modes = DURABILITY_MODES.filter((mode) => values.mode?.includes(mode) ?? true);
/** Direct writes are for strict mode alone; mapped ones are in every mode what they are in this. */
const runs = modes.flatMap((durability) => (durability === 'strict' ? LOG_WAYS : (['buffered'] as const)).map((logIo) => ({ durability, logIo })));

try {
  for (const { durability, logIo } of runs) {
    const startMs = performance.now();
    let shownMs = startMs;
    const report = await crashEverywhere({
      engine: realEngine,
      durability,
      logIo,
      decided: Number(values.decided),
      step: Number(values.step),
      onProgress: (call, calls, { distinct }) => {
        if (performance.now() - shownMs < 15_000) return;
        shownMs = performance.now();
        console.error(`${durability}, ${logIo}: call ${call} of ${calls}, ${distinct} states recovered`);
      },
    });
    const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
    console.log(`${durability}, ${logIo}: ${report.calls} calls, ${report.crashes} crashes, ${report.states} states, ${report.distinct} of them different, all recovered (${report.repeated} twice), ${seconds} s`);
  }
} catch (error) {
  console.log(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
