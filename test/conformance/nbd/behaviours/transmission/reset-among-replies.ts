import type { Behaviour } from '../../suite/behaviour.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'a client that breaks down in the middle of a reply hurts nobody else',
  section: 'Terminating the transmission phase',
  checklist: '1.5',
  level: 'MUST',
  needs: ['several connections'],
  run: async (subject) => {
    const other = await subject.open();
    for (let round = 0; round < 3; round += 1) {
      const client = await subject.open();
      const lost = Array.from({ length: 16 }, () => client.read(0, MIB).catch(() => null));
      await lost[round];
      await client.cut();
      await Promise.all(lost);
      await other.read(0, subject.facts.unit);
    }
    await subject.stillTransmits(other);
  },
};
