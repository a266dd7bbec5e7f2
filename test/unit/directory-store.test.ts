import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { mkdirSync, writeFileSync } from 'node:fs';
import { Arena } from '../../src/base/arena.ts';
import { MIB } from '../../src/base/units.ts';
import type { File, FileSystem, OpenMode } from '../../src/env/env.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import type { StagedObject } from '../../src/store/object-store.ts';
import { drawPowerCut } from '../sim/power-cut.ts';
import { SeededRandom } from '../sim/random.ts';
import { Scratch, SimMachine, snapshot } from '../support/engine-harness.ts';

let scratch: Scratch;
let store: DirectoryStore;
beforeEach(() => {
  scratch = new Scratch();
  mkdirSync(`${scratch.path}/chunks`);
  store = new DirectoryStore(new NodeFileSystem(), scratch.path, 0);
});
afterEach(() => scratch.remove());

async function sealed(target: DirectoryStore, key: string, ...parts: string[]): Promise<StagedObject> {
  const object = await target.stage(key);
  for (const part of parts) await object.append([Buffer.from(part)]);
  await object.seal();
  return object;
}

async function content(key: string): Promise<string> {
  const object = await store.open(key);
  try {
    const bytes = Buffer.alloc(object.sizeBytes);
    await object.read(bytes, 0);
    return bytes.toString();
  } finally {
    await object.close();
  }
}

/** A store on a simulated machine, with room for spare files and one object, `chunks/a` of 9 bytes. */
async function withFirst(use: (machine: SimMachine, store: DirectoryStore) => Promise<void>): Promise<void> {
  const machine = new SimMachine();
  await machine.run(async () => {
    await machine.env.files.makeDirectory('/s');
    await machine.env.files.makeDirectory('/s/chunks');
    const simulated = new DirectoryStore(machine.env.files, '/s', 100);
    await simulated.publish([await sealed(simulated, 'chunks/a', 'the first')]);
    await use(machine, simulated);
  });
}

describe('an object', () => {
  test('is not there until it is published, and then whole', async () => {
    const object = await sealed(store, 'chunks/a', 'one ', 'two');
    await expect(store.open('chunks/a')).rejects.toMatchObject({ code: 'not-found' });
    expect(await store.list('chunks')).toEqual([]);
    await store.publish([object]);
    expect(await content('chunks/a')).toBe('one two');
    expect(await store.list('chunks')).toEqual(['a']);
  });

  test('is never overwritten: a key that is taken is refused, and what is there stays', async () => {
    await store.publish([await sealed(store, 'chunks/a', 'first')]);
    const second = await sealed(store, 'chunks/a', 'second');
    await expect(store.publish([second])).rejects.toMatchObject({ code: 'already-exists' });
    await second.abandon();
    expect(await content('chunks/a')).toBe('first');
    expect([...snapshot(scratch.path).keys()]).toEqual(['chunks/a']);
  });

  test('cannot be staged twice at a time', async () => {
    const first = await store.stage('chunks/a');
    await expect(store.stage('chunks/a')).rejects.toThrow(/EEXIST|exists/);
    await first.abandon();
    await (await store.stage('chunks/a')).abandon();
  });

  test('that was published stays when it is abandoned afterwards', async () => {
    const object = await sealed(store, 'chunks/a', 'kept');
    await store.publish([object]);
    await object.abandon();
    expect(await content('chunks/a')).toBe('kept');
  });

  test('is never padded: a read past its end is damage', async () => {
    await store.publish([await sealed(store, 'chunks/a', '12345')]);
    const object = await store.open('chunks/a');
    await expect(object.read(new Uint8Array(4), 3)).rejects.toMatchObject({ code: 'corrupt', message: 'chunks/a: ends at byte 5, expected at least 7' });
    await object.close();
  });

  test('stays readable while it is open, though it was removed', async () => {
    await store.publish([await sealed(store, 'chunks/a', 'still')]);
    const object = await store.open('chunks/a');
    await store.remove('chunks/a');
    await store.remove('chunks/a'); // no error
    const bytes = Buffer.alloc(5);
    await object.read(bytes, 0);
    expect(bytes.toString()).toBe('still');
    await object.close();
  });
});

/** The real files, but opening or writing one of mode `uncached` fails. */
class RefusingFiles extends NodeFileSystem {
  readonly asked: OpenMode[] = [];
  readonly #at: 'open' | 'write';
  readonly #code: string;

  constructor(at: 'open' | 'write', code: string) {
    super();
    this.#at = at;
    this.#code = code;
  }

  override async open(path: string, mode: OpenMode): Promise<File> {
    this.asked.push(mode);
    if (mode !== 'uncached') return super.open(path, mode);
    if (this.#at === 'open') throw this.#failure();
    const file = await super.open(path, 'write');
    return Object.assign(file, { write: () => Promise.reject(this.#failure()) });
  }

  #failure(): Error {
    return Object.assign(new Error(this.#code), { code: this.#code });
  }
}

describe('bytes past the page cache', () => {
  const PAGE = 4096;
  /** Two pages of page-aligned memory, each with a letter of its own. */
  function pages(): Uint8Array[] {
    const { bytes } = new Arena({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB }).takeDirty({ evict: () => undefined });
    return [bytes.subarray(0, PAGE).fill(97), bytes.subarray(PAGE, 2 * PAGE).fill(98)];
  }
  const EXPECTED = `${'h'.repeat(PAGE)}${'a'.repeat(PAGE)}${'b'.repeat(PAGE)}end`;

  async function put(files: FileSystem, key: string): Promise<void> {
    const target = new DirectoryStore(files, scratch.path, 0);
    for (const name of [`${key}1`, `${key}2`]) {
      const object = await target.stage(name);
      await object.append([Buffer.alloc(PAGE, 'h')]);
      await object.appendUncached(pages());
      await object.append([Buffer.from('end')]);
      await object.seal();
      await target.publish([object]);
    }
  }

  test('stand in the object where they were appended', async () => {
    await put(new NodeFileSystem(), 'chunks/a');
    expect(await content('chunks/a1')).toBe(EXPECTED);
    expect(await content('chunks/a2')).toBe(EXPECTED);
  });

  test.each([
    ['EINVAL', 'open'],
    ['EINVAL', 'write'],
    ['ENOTSUP', 'open'], // what Node calls EOPNOTSUPP
    ['ENOTSUP', 'write'],
  ] as const)('go through it where the file system says %s at the %s, and it is not asked again', async (code, at) => {
    const files = new RefusingFiles(at, code);
    await put(files, 'chunks/a');
    expect(files.asked).toEqual(['create', 'uncached', 'create']);
    expect(await content('chunks/a1')).toBe(EXPECTED);
    expect(await content('chunks/a2')).toBe(EXPECTED);
  });

  test.each(['open', 'write'] as const)('fail as other bytes do when the disk fails at the %s', async (at) => {
    await expect(put(new RefusingFiles(at, 'EIO'), 'chunks/a')).rejects.toMatchObject({ code: 'EIO' });
  });

  test('are lost by a power cut before the object is sealed, and not after', async () => {
    for (const isSealed of [false, true]) {
      const machine = new SimMachine();
      const bytes = await machine.run(async () => {
        await machine.env.files.makeDirectory('/s');
        await machine.env.files.makeDirectory('/s/chunks');
        for (const directory of ['/', '/s']) await machine.env.files.syncDirectory(directory);
        const simulated = new DirectoryStore(machine.env.files, '/s', 0);
        const object = await simulated.stage('chunks/a');
        await object.appendUncached([new Uint8Array(PAGE).fill(97)]);
        await machine.env.files.syncDirectory('/s/chunks');
        if (isSealed) await object.seal();
        machine.process.die();
        machine.disk.cutPower(drawPowerCut(new SeededRandom(1), machine.disk.unsyncedSequences(), 'nothing-kept'));
        machine.restart();
        const file = await machine.env.files.open('/s/chunks/.stage-a', 'read');
        const target = new Uint8Array(PAGE);
        return (await file.read(target, 0)) === PAGE && target.every((byte) => byte === 97);
      });
      expect(bytes).toBe(isSealed);
    }
  });
});

test('preparing removes what a dead writer staged, and nothing else', async () => {
  writeFileSync(`${scratch.path}/chunks/.stage-b`, 'half');
  writeFileSync(`${scratch.path}/chunks/other`, 'mine');
  await store.prepare(['chunks']);
  expect([...snapshot(scratch.path).keys()]).toEqual(['chunks/other']);
});

describe('publishing', () => {
  test('syncs the bytes before the name, and the directory before it answers', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      await machine.env.files.makeDirectory('/s');
      await machine.env.files.makeDirectory('/s/chunks');
      const simulated = new DirectoryStore(machine.env.files, '/s', 0);
      await simulated.publish([await sealed(simulated, 'chunks/a', 'x'), await sealed(simulated, 'chunks/b', 'y')]);
    });
    const kinds = machine.calls.map((call) => call.kind).filter((kind) => ['sync', 'rename', 'sync-directory'].includes(kind));
    expect(kinds).toEqual(['sync', 'sync', 'rename', 'rename', 'sync-directory']);
  });

  test('whose directory cannot be synced has failed for good, even if the system says that space was lacking', async () => {
    const machine = new SimMachine();
    machine.fault = (call) => (call.kind === 'sync-directory' ? { kind: 'error', code: 'ENOSPC' } : null);
    await machine.run(async () => {
      await machine.env.files.makeDirectory('/s');
      await machine.env.files.makeDirectory('/s/chunks');
      const simulated = new DirectoryStore(machine.env.files, '/s', 0);
      await expect(simulated.publish([await sealed(simulated, 'chunks/a', 'x')])).rejects.toMatchObject({ code: 'failed' });
    });
  });
});

function names(): string[] {
  return [...snapshot(scratch.path).keys()];
}

describe('the space of a removed object', () => {
  let keeping: DirectoryStore;
  beforeEach(() => {
    keeping = new DirectoryStore(new NodeFileSystem(), scratch.path, 100);
    store = keeping;
  });
  async function put(key: string, text: string): Promise<void> {
    const object = await keeping.stage(key, text.length);
    await object.append([Buffer.from(text)]);
    await object.seal();
    await keeping.publish([object]);
  }

  test('is used again, but only when its new name is durable', async () => {
    await put('chunks/a', 'the first');
    await keeping.remove('chunks/a', 9);
    expect(names()).toEqual(['chunks/.spare-1']);
    await put('chunks/b', 'the second'); // its publication makes the new name durable
    expect(names()).toEqual(['chunks/.spare-1', 'chunks/b']);
    await put('chunks/c', 'and the third');
    expect(names()).toEqual(['chunks/b', 'chunks/c']);
    expect(await content('chunks/b')).toBe('the second');
    expect(await content('chunks/c')).toBe('and the third');
  });

  test('is used for the next object once removals were settled', async () => {
    await put('chunks/a', 'the first');
    await keeping.remove('chunks/a', 9);
    await keeping.settle();
    await put('chunks/b', 'the second');
    expect(names()).toEqual(['chunks/b']);
    expect(await content('chunks/b')).toBe('the second');
  });

  test('is not used when settling failed', () =>
    withFirst(async (machine, simulated) => {
      await simulated.remove('chunks/a', 9);
      machine.fault = (call) => (call.kind === 'sync-directory' ? { kind: 'error', code: 'EIO' } : null);
      await expect(simulated.settle()).rejects.toMatchObject({ code: 'failed' });
      await simulated.stage('chunks/b', 9);
      expect(await machine.env.files.list('/s/chunks')).toEqual(['.spare-1', '.stage-b']);
    }));

  test('is not used for an object that is shorter, or of unknown length', async () => {
    await put('chunks/a', 'the first');
    await keeping.remove('chunks/a', 9);
    await put('chunks/b', 'x');
    await put('chunks/c', 'shorter');
    await keeping.publish([await sealed(keeping, 'chunks/d', 'of unknown length')]);
    expect(names()).toEqual(['chunks/.spare-1', 'chunks/b', 'chunks/c', 'chunks/d']);
    expect(await content('chunks/c')).toBe('shorter');
  });

  test('is given back when a reader has the object open', async () => {
    await put('chunks/a', 'the first');
    const object = await keeping.open('chunks/a');
    await keeping.remove('chunks/a', 9);
    expect(names()).toEqual([]);
    await object.close();
    await put('chunks/b', 'the next');
    await (await keeping.open('chunks/b')).close();
    await keeping.remove('chunks/b', 8);
    expect(names()).toEqual(['chunks/.spare-1']);
  });

  test('is kept within the limit, and given back on demand', async () => {
    await put('chunks/a', 'x'.repeat(60));
    await put('chunks/b', 'x'.repeat(60));
    await keeping.remove('chunks/a', 60);
    await keeping.remove('chunks/b', 60);
    expect(names()).toEqual(['chunks/.spare-1']);
    await keeping.releaseSpace();
    expect(names()).toEqual([]);
    await put('chunks/c', 'x'.repeat(60));
    await keeping.remove('chunks/c', 60);
    expect(names()).toEqual(['chunks/.spare-2']);
  });

  test('is given back when the object that uses it is abandoned', async () => {
    await put('chunks/a', 'the first');
    await keeping.remove('chunks/a', 9);
    await put('chunks/b', 'x');
    const object = await keeping.stage('chunks/c', 9);
    expect(names()).toEqual(['chunks/.stage-c', 'chunks/b']);
    await object.abandon();
    expect(names()).toEqual(['chunks/b']);
  });

  test('is not used when somebody has made the file longer', async () => {
    await put('chunks/a', 'the first');
    await keeping.remove('chunks/a', 9);
    await put('chunks/b', 'x');
    writeFileSync(`${scratch.path}/chunks/.spare-1`, 'much longer than it was');
    await put('chunks/c', 'the third');
    expect(await content('chunks/c')).toBe('the third');
    expect(names()).toEqual(['chunks/b', 'chunks/c']);
  });

  test('is kept of an object whose reader could not close it', () =>
    withFirst(async (machine, simulated) => {
      const object = await simulated.open('chunks/a');
      machine.fault = (call) => (call.kind === 'close' ? { kind: 'error', code: 'EIO' } : null);
      await object.close();
      machine.fault = () => null;
      await simulated.remove('chunks/a', 9);
      expect(await machine.env.files.list('/s/chunks')).toEqual(['.spare-1']);
    }));

  test('is closed again when its length cannot be learned', () =>
    withFirst(async (machine, simulated) => {
      await simulated.remove('chunks/a', 9);
      await simulated.settle();
      machine.fault = (call) => (call.kind === 'size' ? { kind: 'error', code: 'EIO' } : null);
      await expect(simulated.stage('chunks/b', 9)).rejects.toMatchObject({ code: 'EIO' });
      expect(machine.env.simFiles.openPaths()).toEqual([]);
    }));

  test('is given back when the disk is full', () =>
    withFirst(async (machine, simulated) => {
      await simulated.remove('chunks/a', 9);
      expect(await machine.env.files.list('/s/chunks')).toEqual(['.spare-1']);
      machine.fault = (call) => (call.kind === 'write' ? { kind: 'error', code: 'ENOSPC' } : null);
      await expect(sealed(simulated, 'chunks/b', 'the second')).rejects.toMatchObject({ code: 'ENOSPC' });
      expect(await machine.env.files.list('/s/chunks')).toEqual(['.stage-b']);
    }));

  test('is not used after the process that kept it has ended', async () => {
    await put('chunks/a', 'the first');
    await keeping.remove('chunks/a', 9);
    await new DirectoryStore(new NodeFileSystem(), scratch.path, 100).prepare(['chunks']);
    expect(names()).toEqual([]);
  });
});
