import { NBD_OPT_EXPORT_NAME } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'EXPORT_NAME after extended headers were agreed ends the connection',
  section: 'NBD_OPT_EXTENDED_HEADERS [ext]',
  checklist: '1.2',
  level: 'MUST',
  needs: ['extended'],
  run: async (subject) => {
    const client = await subject.agreed('extended');
    client.send(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(subject.target.exportName)));
    await client.expectEnd();
  },
};
