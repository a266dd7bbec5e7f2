import { NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'STRUCTURED_REPLY with data is refused, nothing is agreed, and the handshake goes on',
  section: 'NBD_OPT_STRUCTURED_REPLY',
  checklist: '1.2',
  level: 'SHOULD',
  needs: ['structured'],
  run: async (subject) => {
    const client = await subject.negotiating();
    await subject.refuses(client, NBD_OPT_STRUCTURED_REPLY, Buffer.from('data'), [NBD_REP_ERR_INVALID]);
    await client.go(subject.target.exportName);
    await subject.stillTransmits(client); // with simple replies
  },
};
