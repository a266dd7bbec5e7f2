import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a client with unknown flags is dropped',
  section: 'Client flags',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    for (const flags of [0x4, 0x80000003, 0xffffffff]) {
      const client = await subject.greeted(flags);
      await client.expectEnd();
    }
  },
};
