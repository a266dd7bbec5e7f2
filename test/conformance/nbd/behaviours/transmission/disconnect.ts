import { NBD_CMD_DISC } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { headerBytes } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'DISC is not answered: the connection is closed, whatever its other fields are',
  section: 'NBD_CMD_DISC',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    const junk = { command: NBD_CMD_DISC, cookie: Buffer.alloc(8, 0xa5), offset: 0xffff_ffff_ffff_ffffn, length: 0xffffffff };
    for (const fields of [{ command: NBD_CMD_DISC, cookie: Buffer.alloc(8) }, junk]) {
      const client = await subject.open(style);
      client.send(headerBytes(style, fields));
      await client.expectEnd();
    }
  },
};
