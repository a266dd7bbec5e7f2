import { createRequire } from 'node:module';

/** The package is optional: a machine without it has no mappings, and nothing to test. Where it is installed, one that does not load is a failure. */
export function hasMappings(): boolean {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) return false;
  try {
    return createRequire(import.meta.url).resolve('koffi') !== '';
  } catch {
    return false;
  }
}
