import type { Behaviour } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

const MIB = 1024 * 1024;
const REPLIES = 150;

export const behaviour: Behaviour = {
  title: 'a client that does not read 150 MiB of replies holds nobody up, and gets them all in the end',
  section: 'Ordering of messages and writes',
  checklist: '1.5',
  level: 'MUST',
  needs: ['several connections', 'writable'],
  run: async (subject) => {
    const client = await subject.open();
    await client.write(0, pattern(MIB, 1));
    client.socket.pause();
    const replies = Promise.all(Array.from({ length: REPLIES }, () => client.read(0, MIB)));
    for (let round = 0; round < 3; round += 1) await subject.serves();
    client.socket.resume();
    for (const data of await replies) expectBytes('a reply', data, pattern(MIB, 1));
    await subject.stillTransmits(client);
  },
};
