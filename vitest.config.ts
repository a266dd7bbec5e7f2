import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

// oxlint-disable-next-line import/no-default-export -- vitest reads the default export
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // One process a file: tests of the server and the engine start threads and hold large buffers.
    pool: 'forks',
    // As the command's launcher does: the S3 client tells users of Node 20 of versions that are not in use here.
    env: { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' },
    maxWorkers: Math.max(2, availableParallelism()),
    // Far above what any test takes on an idle machine: a busy or slow one (a Jetson) is no failure.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
