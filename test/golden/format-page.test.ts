import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { formatPage } from '../support/format-page.ts';

const PAGE = new URL('../../src/format/README.md', import.meta.url);

test('the page of formats says what the comments above the codecs say', () => {
  if (process.env.BASALT_WRITE_GOLDEN === '1') writeFileSync(PAGE, formatPage());
  expect(readFileSync(PAGE, 'utf8')).toBe(formatPage());
});
