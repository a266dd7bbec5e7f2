/** Elsewhere MULTI_CONN was advertised while FLUSH covered only its own connection's writes. Sessions over the real engine, and a power cut. */
import { expect, test } from 'vitest';
import type { Durability } from '../../src/base/durability.ts';
import { MIB } from '../../src/base/units.ts';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_OPT_GO } from '../../src/protocol/constants.ts';
import type { DeviceDirectory } from '../../src/volume/block-device.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { NO_LIMITS } from '../../src/base/volume-limits.ts';
import { BLOCK_BYTES, SimMachine, pattern } from '../support/engine-harness.ts';
import { infoRequestBytes, optionBytes } from '../support/nbd-bytes.ts';
import { SessionDriver, type TestRequest, testResources } from '../support/session-driver.ts';

function directoryOf(volume: Volume): DeviceDirectory {
  return { list: () => Promise.resolve([]), acquire: () => Promise.resolve(volume), release: () => undefined, limitsInForce: () => NO_LIMITS };
}

/** Feeds bytes and waits until all that they set off is done. */
async function feed(machine: SimMachine, driver: SessionDriver, bytes: Uint8Array): Promise<void> {
  driver.feed(bytes);
  await machine.process.sleep(5);
}

async function ask(machine: SimMachine, driver: SessionDriver, request: TestRequest): Promise<void> {
  await feed(machine, driver, driver.encode(request));
  const replies = driver.takeReplies();
  expect(replies.map(({ error }) => error)).toEqual([0]);
}

async function connect(machine: SimMachine, volume: Volume): Promise<SessionDriver> {
  const driver = new SessionDriver(testResources(directoryOf(volume)));
  driver.greet();
  await feed(machine, driver, optionBytes(NBD_OPT_GO, infoRequestBytes('v')));
  expect(driver.takeOptionReplies().at(-1)?.type).toBe(1);
  return driver;
}

const MODES: readonly Durability[] = ['strict', 'batched', 'relaxed'];

test.each(MODES)('a FLUSH on one connection makes durable what was answered on the others (%s)', async (durability) => {
  const machine = new SimMachine();
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: MIB, durability });
    const volume = await machine.open('/v');
    const [first, second, third] = [await connect(machine, volume), await connect(machine, volume), await connect(machine, volume)];
    await ask(machine, first, { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.from(pattern(1)) });
    await ask(machine, second, { command: NBD_CMD_WRITE, offset: BLOCK_BYTES, payload: Buffer.from(pattern(2, 2)) });
    await ask(machine, first, { command: NBD_CMD_TRIM, offset: 2 * BLOCK_BYTES, length: BLOCK_BYTES });
    first.disconnect(); // nor does it matter that it is gone
    await ask(machine, third, { command: NBD_CMD_FLUSH });
    machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
    machine.restart();
    const again = await machine.open('/v');
    const found = Buffer.alloc(3 * BLOCK_BYTES);
    await again.read(0, found);
    expect(found.equals(Buffer.concat([pattern(1), pattern(2, 2).subarray(0, BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)]))).toBe(true);
    await again.close();
  });
});

test('a write with FUA is durable when it is answered, whoever else is at work', async () => {
  const machine = new SimMachine();
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: MIB, durability: 'relaxed' });
    const volume = await machine.open('/v');
    const [first, second] = [await connect(machine, volume), await connect(machine, volume)];
    await ask(machine, first, { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.from(pattern(1)) });
    await ask(machine, second, { command: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_FUA, offset: BLOCK_BYTES, payload: Buffer.from(pattern(2)) });
    machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
    machine.restart();
    const again = await machine.open('/v');
    const found = Buffer.alloc(BLOCK_BYTES);
    await again.read(BLOCK_BYTES, found);
    expect(found.equals(pattern(2))).toBe(true);
    await again.close();
  });
});
