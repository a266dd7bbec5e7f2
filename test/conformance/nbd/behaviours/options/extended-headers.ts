import { NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'EXTENDED_HEADERS is acknowledged, alone or after STRUCTURED_REPLY, and refused again',
  section: 'NBD_OPT_EXTENDED_HEADERS [ext]',
  checklist: '1.2',
  level: 'MUST',
  needs: ['extended'],
  run: async (subject) => {
    for (const structuredFirst of [false, true]) {
      const client = await subject.agreed(structuredFirst ? 'structured' : 'simple');
      await client.agree('extended');
      await subject.refuses(client, NBD_OPT_EXTENDED_HEADERS, Buffer.alloc(0), [NBD_REP_ERR_INVALID]);
      await client.go(subject.target.exportName);
      await subject.stillTransmits(client);
    }
  },
};
