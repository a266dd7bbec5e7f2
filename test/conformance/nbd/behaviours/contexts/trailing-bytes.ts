import { NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

const NAME = 'base:allocation';

export const behaviour: Behaviour = {
  title: 'LIST_ and SET_META_CONTEXT with bytes behind their last query are refused, and the handshake goes on',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const whole = metaContextBytes(subject.target.exportName, [NAME]);
    for (const option of [NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT]) {
      for (const length of [1, 4, 1000]) await subject.refuses(client, option, Buffer.concat([whole, Buffer.alloc(length)]), [NBD_REP_ERR_INVALID]);
    }
    await subject.isInSync(client);
  },
};
