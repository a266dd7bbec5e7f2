import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a client that speaks HTTP is dropped: its first bytes are unknown flags',
  section: 'Client flags',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.connect();
    await client.take(18);
    client.send(Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'));
    await client.expectEnd();
  },
};
