import { NBD_CMD_BLOCK_STATUS, NBD_STATE_HOLE, NBD_STATE_ZERO } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must, pattern } from '../../suite/check.ts';
import { isZero } from '../../suite/steps.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'what base:allocation tells as zeroes reads as zeroes, and what was just written is no hole',
  section: 'Metadata querying: base:allocation',
  checklist: '1.4',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['base:allocation', 'writable', 'write zeroes'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: ['base:allocation'] });
    const { unit } = subject.facts;
    await client.zero(0, MIB);
    for (let at = 8 * unit; at + 8 * unit <= MIB; at += 24 * unit) await client.write(at, pattern(8 * unit, at));
    let offset = 0;
    while (offset < MIB) {
      const { statuses } = await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset, length: MIB - offset }, [0]);
      for (const { length, status } of [...statuses.values()][0] ?? []) {
        const data = await client.read(offset, Math.min(length, MIB - offset));
        if ((status & NBD_STATE_ZERO) !== 0) must(isZero(data), `the extent ${offset}+${length}`, { expected: 'zeroes, as its status says', got: 'other bytes' });
        if (!isZero(data)) must((status & NBD_STATE_HOLE) === 0, `the extent ${offset}+${length}`, { expected: 'no HOLE: it was written', got: `status ${status}` });
        offset += length;
      }
    }
    await subject.stillTransmits(client);
  },
};
