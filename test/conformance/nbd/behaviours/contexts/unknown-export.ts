import { NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { UNKNOWN_NAME } from '../../suite/facts.ts';

export const behaviour: Behaviour = {
  title: 'the contexts of an export that is not there are refused, and the handshake goes on',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation', 'known names'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    for (const option of [NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT]) {
      await subject.refuses(client, option, metaContextBytes(UNKNOWN_NAME, ['base:allocation']), subject.refusalsOfUnknown);
    }
    await subject.isInSync(client);
  },
};
