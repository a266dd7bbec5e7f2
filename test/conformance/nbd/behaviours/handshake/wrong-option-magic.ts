import type { Behaviour } from '../../suite/behaviour.ts';

const MAGICS = ['IHAVEOPS', 'NBDMAGIC', '\0\0\0\0\0\0\0\0'];

export const behaviour: Behaviour = {
  title: 'an option that does not begin with IHAVEOPT ends the connection',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    for (const magic of MAGICS) {
      const client = await subject.negotiating();
      client.send(Buffer.concat([Buffer.from(magic, 'latin1'), Buffer.from('0000000300000000', 'hex')]));
      await client.expectEnd();
    }
  },
};
