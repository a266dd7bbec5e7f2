import { NBD_CMD_BLOCK_STATUS, NBD_STATE_HOLE } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'what was zeroed with NO_HOLE is not told as a hole',
  section: 'NBD_CMD_FLAG_NO_HOLE',
  checklist: '1.4',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['write zeroes', 'writable', 'base:allocation'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: ['base:allocation'] });
    await client.zero(0, MIB, { provisioned: true });
    const { statuses } = await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: MIB }, [0]);
    for (const { status } of [...statuses.values()][0] ?? []) must((status & NBD_STATE_HOLE) === 0, 'the status of zeroes written with NO_HOLE', { expected: 'no HOLE', got: String(status) });
    await subject.stillTransmits(client);
  },
};
