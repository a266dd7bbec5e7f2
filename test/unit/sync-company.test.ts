import { describe, expect, test } from 'vitest';
import { SyncCompany } from '../../src/wal/sync-company.ts';
import { type Ended, LogHarness } from '../support/log-harness.ts';

const SYNC_MS = 8;
/** A sync may wait for a quarter of the last one. */
const WAIT_MS = 2;

describe('a sync that follows a slow one', () => {
  test('waits until as many wait as before, and no longer than a part of a sync', () => {
    const company = new SyncCompany();
    company.synced(100, SYNC_MS, 32, 32);
    expect(company.waitMs(100, 32)).toBe(WAIT_MS);
    expect(company.waitMs(101, 63)).toBe(WAIT_MS - 1);
    expect(company.waitMs(101, 64)).toBe(0);
    // It has begun: the next one waits for nobody until it has ended.
    expect(company.waitMs(101, 1)).toBe(0);
    company.synced(200, SYNC_MS, 64, 0);
    expect(company.waitMs(202, 1)).toBe(0);
  });

  test.each([
    ['was fast', 0.2, 32, 32],
    ['served nobody', SYNC_MS, 0, 32],
  ])('does not wait if that one %s', (_, elapsedMs, served, left) => {
    const company = new SyncCompany();
    company.synced(100, elapsedMs, served, left);
    expect(company.waitMs(100, 1)).toBe(0);
  });

  test('does not wait for one client more than it had', () => {
    const company = new SyncCompany();
    company.synced(100, SYNC_MS, 1, 0);
    expect(company.waitMs(100, 1)).toBe(0);
  });

  test('does not wait again for a while after a wait in vain, and after more of them for longer', () => {
    const company = new SyncCompany();
    const pauses = [0, 0, 0].map(() => {
      company.synced(0, SYNC_MS, 32, 32);
      expect(company.waitMs(0, 32)).toBe(WAIT_MS);
      expect(company.waitMs(WAIT_MS, 40)).toBe(0);
      let pause = 0;
      for (;;) {
        company.synced(0, SYNC_MS, 32, 32);
        if (company.waitMs(0, 32) > 0) break;
        pause += 1;
      }
      return pause;
    });
    expect(pauses[0]).toBeGreaterThan(0);
    expect(pauses[1]).toBeGreaterThan(pauses[0]);
    expect(pauses[2]).toBeGreaterThan(pauses[1]);
  });
});

/** Two groups, each of which came too late for the other's sync. The first one's has ended when this returns. */
async function apart(): Promise<{ harness: LogHarness; second: Ended[] }> {
  const harness = new LogHarness({ durability: 'strict' });
  harness.files[0].hold = true;
  const first = [harness.durable(harness.append(0)), harness.durable(harness.append(1))];
  harness.log.submit();
  const second = [harness.durable(harness.append(2)), harness.durable(harness.append(3))];
  harness.log.submit();
  harness.clock.spend(SYNC_MS);
  await harness.files[0].release();
  expect(first.map(({ code }) => code)).toEqual(['done', 'done']);
  expect(harness.files[0].syncs).toBe(1);
  return { harness, second };
}

describe('the log of a card', () => {
  test('syncs for all clients together when those that were answered have asked again', async () => {
    const { harness, second } = await apart();
    const again = [harness.durable(harness.append(4))];
    harness.log.submit();
    expect(harness.files[0].syncs).toBe(1);
    again.push(harness.durable(harness.append(5)));
    harness.log.submit();
    expect(harness.files[0].syncs).toBe(2);
    await harness.files[0].release();
    expect([...second, ...again].map(({ code }) => code)).toEqual(['done', 'done', 'done', 'done']);
    // Nothing is left of the wait.
    expect(harness.clock.pendingTimers).toBe(0);
  });

  test('syncs for those who wait when nobody joins them in time', async () => {
    const { harness, second } = await apart();
    harness.clock.advance(WAIT_MS - 0.1);
    expect(harness.files[0].syncs).toBe(1);
    harness.clock.advance(0.1);
    expect(harness.files[0].syncs).toBe(2);
    await harness.files[0].release();
    expect(second.map(({ code }) => code)).toEqual(['done', 'done']);
  });

  test('waits for nobody once it is closed', async () => {
    const { harness, second } = await apart();
    await harness.log.close();
    expect(harness.clock.pendingTimers).toBe(0);
    expect(second.map(({ code }) => code)).toEqual(['closed', 'closed']);
  });
});
