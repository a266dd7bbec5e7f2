import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SETTINGS } from '../../src/config/settings.ts';
import { FakeCli } from '../support/cli-double.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

const read = (name: string): string => readFileSync(join(PROJECT_ROOT, name), 'utf8');
const documents = ['README.md', 'CHANGELOG.md', 'volumes/README.md'];

describe.each(documents)('%s', (name) => {
  test('names only settings that exist', () => {
    for (const [key] of read(name).matchAll(/\b(?:engine|server|control|process)\.[a-z]+_[a-z_]+/g)) expect([...SETTINGS.keys()]).toContain(key);
  });

  test('names only verbs that exist', async () => {
    for (const [, verb = ''] of read(name).matchAll(/(?:^|`)basalt ([a-z]+)\b/gm)) {
      expect(await new FakeCli().run(verb, '--help'), verb).toBe(0);
    }
  });

  test('names only targets of make that exist', () => {
    const targets = [...read('Makefile').matchAll(/^([a-z0-9-]+):/gm)].map(([, target]) => target);
    for (const [, target] of read(name).matchAll(/(?:^|`)make ([a-z0-9-]+)\b/gm)) expect(targets).toContain(target);
  });
});

test('the documents do name some of each', () => {
  const readme = read('README.md');
  expect(readme).toContain('engine.batch_blocks');
  expect(readme).toMatch(/^basalt create demo/m);
  expect(readme).toMatch(/^make run/m);
});
