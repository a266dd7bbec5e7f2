import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'ABORT is acknowledged, and the connection closed',
  section: 'NBD_OPT_ABORT',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    await (await subject.negotiating()).abort();
  },
};
