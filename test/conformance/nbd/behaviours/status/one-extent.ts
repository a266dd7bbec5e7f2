import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'BLOCK_STATUS with REQ_ONE tells one extent, within the range',
  section: 'NBD_CMD_FLAG_REQ_ONE',
  checklist: '1.4',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['base:allocation', 'writable', 'write zeroes'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: ['base:allocation'] });
    const { unit } = subject.facts;
    await client.zero(0, 64 * unit);
    await client.write(16 * unit, pattern(16 * unit, 1));
    for (const [offset, length] of [[0, 64 * unit], [0, unit], [20 * unit, 40 * unit], [31 * unit, unit]] as const) {
      const { statuses } = await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, flags: NBD_CMD_FLAG_REQ_ONE, offset, length }, [0]);
      expectEqual('the number of contexts', statuses.size, 1);
    }
    await subject.stillTransmits(client);
  },
};
