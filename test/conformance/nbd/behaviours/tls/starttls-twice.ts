import { NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'STARTTLS in TLS is refused, and the handshake goes on',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls'],
  run: async (subject) => {
    const client = await subject.negotiating();
    await subject.refuses(client, NBD_OPT_STARTTLS, Buffer.alloc(0), [NBD_REP_ERR_INVALID]);
    await subject.isInSync(client);
  },
};
