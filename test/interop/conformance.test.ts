/** The conformance suite is itself checked: other servers must pass it, but for what is known of them, and that must still hold. */
import { expect } from 'vitest';
import { DEVIATIONS, KNOWN_SERVERS, type KnownServer } from '../conformance/nbd/suite/deviations.ts';
import { loadBehaviours } from '../conformance/nbd/suite/load.ts';
import { tableOf } from '../conformance/nbd/suite/report.ts';
import { type Result, runSuite } from '../conformance/nbd/suite/runner.ts';
import { startKnown } from '../conformance/nbd/suite/servers.ts';
import { interopTest } from './tools.ts';

async function check(name: KnownServer, secured: boolean): Promise<Result[]> {
  const server = await startKnown(name, secured);
  try {
    const selected = secured ? (behaviour: string) => behaviour.startsWith('tls/') : () => true;
    return await runSuite(server.target, { behaviours: await loadBehaviours(), known: DEVIATIONS[name], selected });
  } finally {
    await server.stop();
  }
}

for (const name of KNOWN_SERVERS) {
  interopTest([name], `${name} passes the conformance suite, but for what is known of it`, async () => {
    const results = [...(await check(name, false)), ...(await check(name, true))];
    const failed = results.filter(({ verdict }) => verdict === 'FAILED');
    expect(failed.length === 0 ? '' : tableOf(name, failed)).toBe('');
    expect(results.filter(({ verdict }) => verdict === 'ok').length).toBeGreaterThan(110);
    const unheard = DEVIATIONS[name].filter(({ behaviour }) => results.every((result) => result.name !== behaviour && result.behaviour.id !== behaviour));
    expect(unheard, 'deviations of no behaviour').toEqual([]);
  });
}
