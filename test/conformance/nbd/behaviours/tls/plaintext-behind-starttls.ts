import { NBD_OPT_GO, NBD_OPT_LIST, NBD_OPT_STARTTLS, NBD_OPT_STRUCTURED_REPLY } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'what follows STARTTLS in the same packet is never looked at: the connection ends',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls'],
  run: async (subject) => {
    const injected = [optionBytes(NBD_OPT_STRUCTURED_REPLY), optionBytes(NBD_OPT_GO, infoRequestBytes(subject.target.exportName))];
    for (const option of injected) {
      const client = await subject.greeted();
      client.send(Buffer.concat([optionBytes(NBD_OPT_STARTTLS), option]));
      await client.untilEnd();
    }
    // Behind it: the answer to STARTTLS at most, and TLS records that say why.
    const option = optionBytes(NBD_OPT_LIST).toString('hex');
    must(!subject.tape.some((line) => line.includes('<') && line.includes(option)), 'what came back', { expected: 'no answer to an option', got: subject.tape.join('; ') });
  },
};
