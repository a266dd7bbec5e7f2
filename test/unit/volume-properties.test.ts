import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { NO_LIMITS } from '../../src/base/volume-limits.ts';
import { changedLabels, decodeProperties, encodeProperties } from '../../src/volume/volume-properties.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';
import { text } from '../support/text.ts';

const CREATE = { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } as const;

function world(): { machine: SimMachine; open: () => VolumeSet } {
  const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB }));
  machine.disk.makeDirectory('/data');
  return { machine, open: () => new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings }) };
}

describe('labels', () => {
  test('stay with the volume, over a restart, a new name, and whether it is open', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      expect(await set.labelsOf('a')).toEqual({});
      expect(await set.setLabels('a', { tier: 'scratch', owner: 'alice' })).toEqual({ owner: 'alice', tier: 'scratch' });
      const device = await set.acquire('a');
      expect(await set.setLabels('a', { tier: null, 'team/x': 'größe = 1' })).toEqual({ owner: 'alice', 'team/x': 'größe = 1' });
      expect((await set.describe('a')).labels).toEqual({ owner: 'alice', 'team/x': 'größe = 1' });
      set.release(device);
      await set.rename('a', 'b');
      await set.close();
    });
    machine.restart();
    await machine.run(async () => {
      const set = open();
      expect(await set.labelsOf('b')).toEqual({ owner: 'alice', 'team/x': 'größe = 1' });
      await set.close();
    });
  });

  test('are those before or those after when the machine dies at any call of a change', async () => {
    for (let target = 1; target <= 12; target += 1) {
      const { machine, open } = world();
      await machine.run(async () => {
        const set = open();
        await set.create('a', CREATE);
        await set.setLabels('a', { state: 'old' });
        await set.close();
      });
      let calls = 0;
      machine.fault = () => {
        calls += 1;
        return calls === target ? { kind: 'crash', when: target % 2 === 0 ? 'before' : 'during' } : null;
      };
      const { process } = machine;
      await machine.run(() => Promise.race([open().setLabels('a', { state: 'new' }), process.death]));
      machine.fault = () => null;
      machine.restart();
      await machine.run(async () => {
        const { state } = await open().labelsOf('a');
        expect(['old', 'new']).toContain(state);
        expect(await open().setLabels('a', { state: 'later' })).toEqual({ state: 'later' });
      });
    }
  });

  test('that cannot be read keep nobody from looking at the volume', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      await set.setLabels('a', { x: 'y' });
      machine.disk.write(machine.disk.findFile('/data/a/properties.json'), Buffer.from('{}{'), 0);
      expect(await set.describe('a')).toMatchObject({ labels: {}, damage: null });
      await expect(set.labelsOf('a')).rejects.toMatchObject({ code: 'corrupt', message: text(/properties\.json: .* labels and limits are all that is lost/) });
      await set.close();
    });
  });

  test('are decoded as they were encoded, and nothing else is', () => {
    const properties = { labels: { b: '2', a: '1' }, limits: NO_LIMITS };
    const bytes = new TextDecoder().decode(encodeProperties(properties));
    expect(bytes).toBe('{\n  "version": 1,\n  "labels": {\n    "a": "1",\n    "b": "2"\n  }\n}\n');
    expect(decodeProperties(bytes, 'p')).toEqual(properties);
    for (const [wrong, message] of [['', 'is not JSON'], ['[]', 'no version'], ['{"version":3,"labels":{}}', 'version 3; this basalt reads versions up to 2'], ['{"version":2,"labels":{}}', 'has no limits'], ['{"version":2,"labels":{},"limits":{}}', 'limit operationsPerSecond is no number'], ['{"version":1,"labels":[1]}', 'label "0" is no text'], ['{"version":1,"labels":{"-":"x"}}', 'a key is of 1 to 63']]) {
      expect(() => decodeProperties(wrong, 'p'), wrong).toThrow(message);
    }
  });

  test('have limits', () => {
    const many = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`k${index}`, 'v']));
    expect(() => changedLabels(many, { k0: 'w' })).not.toThrow();
    expect(() => changedLabels(many, { one: 'more' })).toThrow('65 labels are more than 64');
    expect(() => changedLabels({}, { k: 'x'.repeat(1025) })).toThrow('one line of at most 1024 bytes');
    expect(() => changedLabels({}, { k: 'two\nlines' })).toThrow('one line');
    expect(() => changedLabels({}, { ['k'.repeat(64)]: 'v' })).toThrow('a key is of 1 to 63');
  });
});

describe('limits', () => {
  test('are kept beside the labels, over a restart and a new name, from the making on, and are in force once it is open', async () => {
    const { machine, open } = world();
    const asked = { ...NO_LIMITS, operationsPerSecond: 500 };
    await machine.run(async () => {
      const set = open();
      expect(await set.create('a', { ...CREATE, limits: asked })).toMatchObject({ limits: asked, labels: {} });
      await set.setLabels('a', { owner: 'alice' });
      const device = await set.acquire('a');
      expect(set.limitsInForce('a')).toEqual(asked);
      expect(await set.setLimits('a', { bytesPerSecond: MIB, burstOperations: 7 })).toEqual({ ...asked, bytesPerSecond: MIB, burstOperations: 7 });
      expect(set.limitsInForce('a')).toBe(set.limitsInForce('a'));
      expect(set.limitsInForce('a').burstOperations).toBe(7);
      set.release(device);
      await set.rename('a', 'b');
      await set.close();
    });
    machine.restart();
    await machine.run(async () => {
      const set = open();
      expect(await set.describe('b')).toMatchObject({ labels: { owner: 'alice' }, limits: { operationsPerSecond: 500, burstOperations: 7, bytesPerSecond: MIB } });
      expect(set.limitsInForce('b')).toEqual(NO_LIMITS);
      set.release(await set.acquire('b'));
      expect(set.limitsInForce('b').bytesPerSecond).toBe(MIB);
      expect(await set.setLimits('b', { operationsPerSecond: null, bytesPerSecond: null })).toEqual(NO_LIMITS);
      expect(await set.limitsOf('b')).toEqual(NO_LIMITS);
      await set.close();
    });
  });

  test('that make no sense make no volume, and change none', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const set = open();
      await expect(set.create('a', { ...CREATE, limits: { ...NO_LIMITS, burstBytes: MIB } })).rejects.toMatchObject({ code: 'invalid-argument' });
      expect(await set.list()).toEqual([]);
      await set.create('a', CREATE);
      for (const wrong of [{ operationsPerSecond: 0 }, { operationsPerSecond: 1.5 }, { operationsPerSecond: 1e10 }, { bytesPerSecond: 4095 }, { burstOperations: 5 }, { burstBytes: MIB }]) {
        await expect(set.setLimits('a', wrong), JSON.stringify(wrong)).rejects.toMatchObject({ code: 'invalid-argument' });
      }
      expect(await set.limitsOf('a')).toEqual(NO_LIMITS);
      await set.close();
    });
  });

  test('are decoded as they were encoded', () => {
    const properties = { labels: { a: '1' }, limits: { operationsPerSecond: 10, burstOperations: null, bytesPerSecond: 8192, burstBytes: 16_384 } };
    const written = new TextDecoder().decode(encodeProperties(properties));
    expect(JSON.parse(written)).toEqual({ version: 2, ...properties });
    expect(decodeProperties(written, 'p')).toEqual(properties);
    expect(() => decodeProperties(written.replace('8192', '1'), 'p')).toThrow('bytesPerSecond 1: give a whole number from 4096');
  });
});

describe('a volume is renamed', () => {
  test('with all that it holds, and not while somebody uses it', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      await set.create('c', CREATE);
      const device = await set.acquire('a');
      await device.write(0, pattern(5), true);
      await expect(set.rename('a', 'b')).rejects.toMatchObject({ code: 'in-use' });
      await expect(set.remove('a')).rejects.toMatchObject({ code: 'in-use' });
      set.release(device); // open still, and nobody uses it
      await expect(set.rename('a', 'c')).rejects.toMatchObject({ code: 'already-exists' });
      await set.rename('a', 'b');
      expect((await set.describeAll()).map(({ name }) => name)).toEqual(['b', 'c']);
      const again = await set.acquire('b');
      const target = new Uint8Array(BLOCK_BYTES);
      await again.read(0, target);
      expect(target).toEqual(new Uint8Array(pattern(5)));
      set.release(again);
      await set.remove('b'); // open, and nobody uses it
      expect((await set.describeAll()).map(({ name }) => name)).toEqual(['c']);
      for (const [name, wanted, code] of [['none', 'x', 'not-found'], ['c', '.x', 'invalid-argument'], ['c', 'a/b', 'invalid-argument'], ['c', 'c', 'already-exists']] as const) {
        await expect(set.rename(name, wanted), `${name} ${wanted}`).rejects.toMatchObject({ code });
      }
      await set.close();
    });
  });

  test('and not while another process has it', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const [first, second] = [open(), open()];
      await first.create('a', CREATE);
      const device = await first.acquire('a');
      await expect(second.rename('a', 'b')).rejects.toMatchObject({ code: 'in-use' });
      first.release(device);
      await first.close();
      await second.rename('a', 'b');
      await second.close();
    });
  });
});
