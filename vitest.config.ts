import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

// oxlint-disable-next-line import/no-default-export -- vitest reads the default export
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // One process a file: tests of the server and the engine start threads and hold large buffers.
    pool: 'forks',
    maxWorkers: Math.max(2, availableParallelism()),
    // Far above what any test takes on an idle machine: a busy or slow one (a Jetson) is no failure.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
