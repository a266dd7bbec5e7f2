/** The project's own files, for the tests that read them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT_ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface SourceFile {
  /** Path below the folder that was asked for, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** All files below a folder of the project whose names match, sorted by path. */
export function readTree(folder: string, name: RegExp): SourceFile[] {
  const root = join(PROJECT_ROOT, folder);
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path: relative(root, path).split(sep).join('/'), text: readFileSync(path, 'utf8') }))
    .sort((first, second) => (first.path < second.path ? -1 : 1));
}
