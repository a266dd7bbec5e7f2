import { NBD_OPT_GO, NBD_OPT_INFO } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { UNKNOWN_NAME } from '../../suite/facts.ts';

export const behaviour: Behaviour = {
  title: 'INFO and GO of an export that is not there are refused, and another one may be opened',
  section: 'NBD_OPT_INFO and NBD_OPT_GO',
  checklist: '1.2',
  level: 'MUST',
  needs: ['known names'],
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) await subject.refuses(client, option, infoRequestBytes(UNKNOWN_NAME), subject.refusalsOfUnknown);
    await client.go(subject.target.exportName);
    await subject.stillTransmits(client);
  },
};
