import { NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'SET_META_CONTEXT before structured replies are agreed is refused, and the handshake goes on',
  section: 'NBD_OPT_SET_META_CONTEXT',
  checklist: '1.2',
  level: 'SHOULD',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.negotiating();
    await subject.refuses(client, NBD_OPT_SET_META_CONTEXT, metaContextBytes(subject.target.exportName, ['base:allocation']), [NBD_REP_ERR_INVALID]);
    await subject.isInSync(client);
  },
};
