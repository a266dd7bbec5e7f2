import { NBD_OPT_EXPORT_NAME } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'EXPORT_NAME of 4097 bytes, or 70 KB, ends the connection',
  section: 'String values',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    for (const length of [4097, 70_000]) {
      const client = await subject.negotiating();
      client.send(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.alloc(length, 'x')));
      await client.expectEnd();
    }
  },
};
