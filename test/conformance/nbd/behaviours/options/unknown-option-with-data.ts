import { NBD_REP_ERR_TOO_BIG, NBD_REP_ERR_UNSUP } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'an unknown option with data, up to 64 KiB, is refused, and its data is not taken for options',
  section: 'Option types',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const length of [1, 15, 16, 4096, 65_536]) await subject.refuses(client, 0x7fff0003, Buffer.alloc(length, 'IHAVEOPT\0\0\0\x02\0\0\0\0'), [NBD_REP_ERR_UNSUP, NBD_REP_ERR_TOO_BIG]);
    await subject.isInSync(client);
  },
};
