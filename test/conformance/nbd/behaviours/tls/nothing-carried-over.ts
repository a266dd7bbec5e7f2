import { NBD_FLAG_SEND_DF } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must, skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'what was agreed before TLS is void in it',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls', 'structured'],
  run: async (subject) => {
    if (subject.facts.forcesTls) skip('nothing can be agreed before TLS');
    const client = await subject.greeted();
    await client.agree('structured');
    await client.startTls(subject.target.tls ?? {});
    client.reader.style = 'simple';
    const { transmissionFlags } = await client.go(subject.target.exportName);
    must((transmissionFlags & NBD_FLAG_SEND_DF) === 0, 'transmission flags', { expected: 'no SEND_DF: structured replies are not agreed', got: `0x${transmissionFlags.toString(16)}` });
    await subject.stillTransmits(client);
  },
};
