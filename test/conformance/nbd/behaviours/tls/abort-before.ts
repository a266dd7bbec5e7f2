import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'ABORT is acknowledged before TLS, too',
  section: 'NBD_OPT_ABORT',
  checklist: '1.6',
  level: 'SHOULD',
  needs: ['tls'],
  run: async (subject) => {
    await (await subject.greeted()).abort();
  },
};
