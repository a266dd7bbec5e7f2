/** Where the module of the worker threads stands. */

/** The built chunk worker. Threads load JavaScript: a program that runs from its TypeScript sources takes the one in `dist`. */
export function workerEntry(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? '../../dist/chunk/chunk.worker.js' : './chunk.worker.js', import.meta.url);
}
