import { NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID, NBD_REP_ERR_TOO_BIG } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'LIST_ and SET_META_CONTEXT that announce 2^32-1 queries are refused at once, and the handshake goes on',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    for (const option of [NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT]) {
      for (const announced of [2, 0x7fffffff, 0xffffffff]) {
        await subject.refuses(client, option, metaContextBytes(subject.target.exportName, ['base:allocation'], announced), [NBD_REP_ERR_INVALID, NBD_REP_ERR_TOO_BIG]);
      }
    }
    await subject.isInSync(client);
  },
};
