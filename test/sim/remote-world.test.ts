import { describe, expect, test } from 'vitest';
import { RemoteWorld } from './remote-world.ts';

describe('worlds of volumes with a bucket', () => {
  test.each(Array.from({ length: 40 }, (_, index) => index + 1))('seed %i', async (seed) => {
    await new RemoteWorld(seed).run();
  });

  test('are the same again', async () => {
    const [once, again] = [await new RemoteWorld(7).run(), await new RemoteWorld(7).run()];
    expect(again).toEqual(once);
  });
});
