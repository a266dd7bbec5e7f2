/** Which copies of the bucket's objects go first. */
import { expect, test } from 'vitest';
import { CopyCache } from '../../src/store/copy-cache.ts';
import { SimMachine } from '../support/engine-harness.ts';

test('one removal runs at a time, whoever asks for it as another one ends', async () => {
  const machine = new SimMachine();
  const { clock } = machine.env;
  await machine.run(async () => {
    let running = 0;
    let runningMax = 0;
    const removed: string[] = [];
    const remove = async (key: string): Promise<void> => {
      running += 1;
      runningMax = Math.max(runningMax, running);
      expect(cache.isLeaving(key)).toBe(true);
      await clock.sleep(5);
      expect(cache.isLeaving(key)).toBe(true);
      removed.push(key);
      running -= 1;
    };
    const cache: CopyCache = new CopyCache({ clock, ttlMs: 0, limitBytes: 100, mayEvict: () => true, remove });
    for (const key of ['a', 'b', 'c']) cache.count(key, 50);
    const counting = cache.settle().then(() => cache.count('d', 50));
    await cache.shrink(50);
    await counting;
    await cache.settle();
    expect([removed, runningMax, cache.bytes, cache.evictions]).toEqual([['a', 'b', 'c'], 1, 50, 3]);
    expect(cache.isLeaving('c')).toBe(false);
  });
});
