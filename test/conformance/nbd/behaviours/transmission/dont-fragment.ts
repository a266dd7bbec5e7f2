import { NBD_CMD_FLAG_DF, NBD_CMD_READ, NBD_FLAG_SEND_DF } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a READ of up to 64 KiB with DF comes in one chunk',
  section: 'NBD_CMD_FLAG_DF',
  checklist: '1.4',
  level: 'MUST',
  styles: ['structured', 'extended'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    must(((client.export?.transmissionFlags ?? 0) & NBD_FLAG_SEND_DF) !== 0, 'transmission flags', { expected: 'SEND_DF with structured replies', got: 'none' });
    for (const length of [subject.facts.unit, 65_536]) {
      const { pieces } = await subject.answers(client, { command: NBD_CMD_READ, flags: NBD_CMD_FLAG_DF, offset: 0, length }, [0]);
      expectEqual(`the number of chunks of ${length} bytes with DF`, pieces.length, 1);
    }
    await subject.stillTransmits(client);
  },
};
