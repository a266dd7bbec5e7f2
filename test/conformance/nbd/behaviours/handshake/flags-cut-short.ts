import { clientFlagsBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a client that leaves in the middle of its flags is answered nothing',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.connect();
    await client.take(18);
    client.send(clientFlagsBytes(3).subarray(0, 2));
    client.endInput();
    await client.expectEnd();
  },
};
