import { NBD_OPT_LIST, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'LIST with data is refused, and the handshake goes on',
  section: 'NBD_OPT_LIST',
  checklist: '1.2',
  level: 'SHOULD',
  needs: ['list'],
  run: async (subject) => {
    const client = await subject.negotiating();
    await subject.refuses(client, NBD_OPT_LIST, Buffer.from('data'), [NBD_REP_ERR_INVALID]);
    await subject.isInSync(client);
  },
};
