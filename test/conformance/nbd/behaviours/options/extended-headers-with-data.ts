import { NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'EXTENDED_HEADERS with data is refused, nothing is agreed, and the handshake goes on',
  section: 'NBD_OPT_EXTENDED_HEADERS [ext]',
  checklist: '1.2',
  level: 'MUST',
  needs: ['extended'],
  run: async (subject) => {
    const client = await subject.negotiating();
    await subject.refuses(client, NBD_OPT_EXTENDED_HEADERS, Buffer.from('x'), [NBD_REP_ERR_INVALID]);
    await client.go(subject.target.exportName);
    await subject.stillTransmits(client); // with compact headers
  },
};
