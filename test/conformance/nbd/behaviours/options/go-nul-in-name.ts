import { NBD_OPT_GO, NBD_OPT_INFO, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'INFO and GO with a NUL in the name are refused, and the handshake goes on',
  section: 'String values',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      for (const name of [`${subject.target.exportName}\0`, '\0', 'a\0b']) {
        await subject.refuses(client, option, infoRequestBytes(name), [NBD_REP_ERR_INVALID]);
      }
    }
    await subject.isInSync(client);
  },
};
