import { NBD_OPT_GO, NBD_OPT_INFO, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'INFO and GO with a name that reaches past the end of their data are refused, and the handshake goes on',
  section: 'NBD_OPT_INFO and NBD_OPT_GO',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      for (const nameBytes of [5, 6, 100, 0x7fffffff, 0xffffffff]) {
        const data = infoRequestBytes('name');
        data.writeUInt32BE(nameBytes, 0);
        await subject.refuses(client, option, data, [NBD_REP_ERR_INVALID]);
      }
    }
    await subject.isInSync(client);
  },
};
