import { NBD_OPT_GO, NBD_OPT_INFO, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'INFO and GO of 0 to 5 bytes are refused, and the handshake goes on',
  section: 'NBD_OPT_INFO and NBD_OPT_GO',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      for (let length = 0; length < 6; length += 1) await subject.refuses(client, option, Buffer.alloc(length), [NBD_REP_ERR_INVALID]);
    }
    await subject.isInSync(client);
  },
};
