import { NBD_OPT_GO, NBD_OPT_INFO, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'INFO and GO with bytes behind their last info are refused, and the handshake goes on',
  section: 'NBD_OPT_INFO and NBD_OPT_GO',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      for (const length of [1, 2, 1000]) {
        await subject.refuses(client, option, Buffer.concat([infoRequestBytes(subject.target.exportName, [3]), Buffer.alloc(length)]), [NBD_REP_ERR_INVALID]);
      }
    }
    await subject.isInSync(client);
  },
};
