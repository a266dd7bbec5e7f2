import { NBD_OPT_ABORT } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a client may be gone before its ABORT is answered',
  section: 'NBD_OPT_ABORT',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    for (let round = 0; round < 3; round += 1) {
      const client = await subject.negotiating();
      client.send(optionBytes(NBD_OPT_ABORT));
      await client.cut();
    }
  },
};
