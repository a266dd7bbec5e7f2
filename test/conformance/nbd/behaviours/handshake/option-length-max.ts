import { NBD_OPT_GO, NBD_OPT_LIST } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'an option that announces 2^32-1 bytes ends the connection, and takes no memory',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MAY',
  run: async (subject) => {
    for (const option of [NBD_OPT_LIST, NBD_OPT_GO, 0x7fff0000]) {
      const client = await subject.negotiating();
      client.send(optionBytes(option, Buffer.alloc(0), 0xffffffff));
      await client.expectEnd();
    }
  },
};
