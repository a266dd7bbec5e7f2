import { NBD_REP_ERR_UNSUP } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'options that are not known, or withdrawn, are refused as such, and the handshake goes on',
  section: 'Option types',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [0, 4, 12, 255, 0x7fffffff, 0xffffffff]) await subject.refuses(client, option, Buffer.alloc(0), [NBD_REP_ERR_UNSUP]);
    await subject.isInSync(client);
  },
};
