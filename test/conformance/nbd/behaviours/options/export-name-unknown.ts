import { NBD_OPT_EXPORT_NAME } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { UNKNOWN_NAME } from '../../suite/facts.ts';

export const behaviour: Behaviour = {
  title: 'EXPORT_NAME of an export that is not there ends the connection: it has no error reply',
  section: 'NBD_OPT_EXPORT_NAME',
  checklist: '1.2',
  level: 'MUST',
  needs: ['known names'],
  run: async (subject) => {
    const client = await subject.negotiating();
    client.send(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(UNKNOWN_NAME)));
    await client.expectEnd();
  },
};
