import { NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'STRUCTURED_REPLY after EXTENDED_HEADERS is refused: they imply it',
  section: 'NBD_OPT_STRUCTURED_REPLY [ext]',
  checklist: '1.2',
  level: 'SHOULD',
  needs: ['extended'],
  run: async (subject) => {
    const client = await subject.agreed('extended');
    await subject.refuses(client, NBD_OPT_STRUCTURED_REPLY, Buffer.alloc(0), [NBD_REP_ERR_EXT_HEADER_REQD]);
    await client.go(subject.target.exportName);
    await subject.stillTransmits(client);
  },
};
