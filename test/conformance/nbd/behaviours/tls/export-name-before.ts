import { NBD_OPT_EXPORT_NAME } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a server that forces TLS drops who sends EXPORT_NAME before it',
  section: 'FORCEDTLS mode',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls'],
  run: async (subject) => {
    if (!subject.facts.forcesTls) skip('does not force TLS');
    for (const flags of [3, 0]) {
      const client = await subject.greeted(flags);
      client.send(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(subject.target.exportName)));
      await client.expectEnd();
    }
  },
};
