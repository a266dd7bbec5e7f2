import { describe, expect, test } from 'vitest';
import { checkLayers, LAYERS } from './support/layers.ts';
import { scanSource } from './support/source-scan.ts';
import { readTree } from './support/source-tree.ts';

const sources = readTree('src', /\.ts$/);

describe('the sources', () => {
  test('are found', () => {
    expect(sources.map(({ path }) => path)).toEqual(expect.arrayContaining(['base/errors.ts', 'env/env.ts', 'cli/main.ts']));
  });

  test.each(sources)('$path keeps to the table of layers', ({ path, text }) => {
    expect(checkLayers(path, text)).toEqual([]);
  });
});

describe('the table', () => {
  test('lets a layer import only what stands below it', () => {
    for (const [folder, { level, imports }] of Object.entries(LAYERS)) {
      for (const target of imports) {
        const targetLevel = LAYERS[target.split('/')[0] ?? '']?.level;
        expect(targetLevel, `${folder} -> ${target}`).toBeDefined();
        if (folder === 'control' && target === 'config') continue; // DESIGN's table lists this one pair of neighbours
        expect(targetLevel, `${folder} -> ${target}`).toBeLessThan(level);
      }
    }
  });

  test('keeps the NBD side and the engine apart', () => {
    expect(LAYERS.volume?.imports).not.toContain('protocol');
    for (const folder of ['session', 'server']) {
      for (const engine of ['volume', 'index', 'wal', 'chunk', 'store', 'format', 'env']) expect(LAYERS[folder]?.imports).not.toContain(engine);
    }
  });
});

const problems = (file: string, source: string): string[] => checkLayers(file, source).map(({ line, problem }) => `${line}: ${problem}`);

describe('the checker finds', () => {
  test.each([
    ['an import upwards', 'base/x.ts', "import { a } from '../volume/a.ts';", '1: base may not import volume/a.ts'],
    ['an import of a neighbour', 'wal/x.ts', "import { a } from '../index/a.ts';", '1: wal may not import index/a.ts'],
    ['the engine importing the protocol', 'volume/x.ts', "import { a } from '../protocol/a.ts';", '1: volume may not import protocol/a.ts'],
    ['a type import, which is one too', 'format/x.ts', "\nimport type { Env } from '../env/env.ts';", '2: format may not import env/env.ts'],
    ['a session reaching behind the interface', 'session/x.ts', "import { open } from '../volume/open-volume.ts';", '1: session may not import volume/open-volume.ts'],
    ['the engine taking the real environment', 'volume/x.ts', "import { a } from '../env/node-env.ts';", '1: volume may not import env/node-env.ts'],
    ['an export from elsewhere', 'index/x.ts', "export { a } from '../store/a.ts';", '1: index may not import store/a.ts'],
    ['a dynamic import', 'protocol/x.ts', "const a = await import('../session/a.ts');", '1: protocol may not import session/a.ts'],
    ['an import for its effect', 'env/x.ts', "import '../wal/a.ts';", '1: env may not import wal/a.ts'],
    ['a worker entry by URL', 'base/x.ts', "new URL('../chunk/a.worker.ts', import.meta.url)", '1: base may not import chunk/a.worker.ts'],
    ['a computed import', 'base/x.ts', 'await import(name);', '1: a computed import cannot be checked'],
    ['an import of the tests', 'cli/x.ts', "import { a } from '../../test/a.ts';", '1: imports ../test/a.ts, which lies outside src'],
    ['yargs outside cli', 'config/x.ts', "import yargs from 'yargs';", '1: package yargs has its door at /^cli\\//'],
    ['piscina outside the environment', 'chunk/x.ts', "import { Piscina } from 'piscina';", '1: package piscina has its door at /^env\\/node-[a-z-]+\\.ts$/'],
    ['a package without a door', 'cli/x.ts', "import a from '@some/thing/deep';", '1: package @some/thing has no door'],
    ['sockets outside server', 'cli/x.ts', "import net from 'node:net';", '1: node:net belongs to server/'],
    ['sockets of the store outside their one file', 'store/x.ts', "import net from 'node:net';", '1: node:net belongs to server/'],
    ['another protocol in that file', 'store/range-connection.ts', "import http from 'node:http';", '1: node:http belongs to server/'],
    ['files in the engine', 'volume/x.ts', "import { readFile } from 'node:fs/promises';", '1: node:fs/promises below server/: take it from Env'],
    ['the clock in the engine', 'wal/x.ts', 'const now = Date.now();', '1: Date below server/: take it from Env'],
    ['timers in the session', 'session/x.ts', '\n\nsetTimeout(run, 5);', '3: setTimeout below server/: take it from Env'],
    ['chance in the engine', 'index/x.ts', 'const a = Math.random();', '1: Math.random below server/: take it from Env'],
    ['the process in a template', 'store/x.ts', 'const a = `${`${process.pid}`}`;', '1: process below server/: take it from Env'],
    ['a folder that is not in the table', 'extra/x.ts', 'export {};', '1: folder extra is not in the table of layers'],
  ])('%s', (_, file, source, expected) => {
    expect(problems(file, source)).toEqual([expected]);
  });
});

describe('the checker allows', () => {
  test.each([
    ['the volume interface to the session', 'session/x.ts', "import type { BlockDevice } from '../volume/block-device.ts';"],
    ['base to everybody', 'protocol/x.ts', "import { assert } from '../base/assert.ts';"],
    ['its own folder to everybody', 'wal/x.ts', "import { a } from './a.ts';"],
    ['everything to the composition root', 'cli/x.ts', "import { a } from '../volume/a.ts'; import yargs from 'yargs'; console.log(Date.now());"],
    ['the world to the real environment', 'env/node-env.ts', "import { open } from 'node:fs/promises'; setTimeout(run, Date.now());"],
    ['the world to a worker entry', 'chunk/build.worker.ts', "import { parentPort } from 'node:worker_threads'; process.exit();"],
    ['pure modules of Node to everybody', 'base/x.ts', "import { crc32 } from 'node:zlib';"],
    ['words in comments, texts and patterns', 'wal/x.ts', "// Date\n/* process */ const a = 'console', b = \"fetch\", c = `Date ${a} timers`, d = /process'/u, e = 4 / 2;"],
    ['names that only look like globals', 'wal/x.ts', 'this.process(); const startDate = clock.setTimeout; value.console;'],
  ])('%s', (_, file, source) => {
    expect(problems(file, source)).toEqual([]);
  });
});

describe('the scanner', () => {
  test('keeps length and lines', () => {
    for (const { text } of sources) {
      const { code } = scanSource(text);
      expect(code.length).toBe(text.length);
      expect(code.split('\n').length).toBe(text.split('\n').length);
    }
  });

  test('reads imports of several lines and several in one line', () => {
    const source = "import {\n  a,\n  type B,\n} from './a.ts';\nimport c from \"./c.ts\"; import * as d from './d.ts';\nexport * from './e.ts';";
    expect(scanSource(source).imports).toEqual([
      { specifier: './a.ts', line: 4 },
      { specifier: './c.ts', line: 5 },
      { specifier: './d.ts', line: 5 },
      { specifier: './e.ts', line: 6 },
    ]);
  });

  test('sees no import in a comment, a text or a pattern', () => {
    const source = "// import a from './a.ts'\nconst t = \"from './b.ts'\"; const p = /from '[/]c/; const q = `import('./d.ts')`;";
    expect(scanSource(source).imports).toEqual([]);
  });

  test('goes on behind escapes, nested templates and divisions', () => {
    const source = "const a = 'it\\'s', b = `x${{ y: `}` }}z`, c = a / b / 2, d = (e) / 3;\nimport f from './f.ts';";
    expect(scanSource(source).imports).toEqual([{ specifier: './f.ts', line: 2 }]);
  });
});
