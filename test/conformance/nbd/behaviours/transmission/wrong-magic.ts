import { NBD_CMD_READ } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { headerBytes } from '../../suite/steps.ts';

const MAGICS = [0, 0x25609514, 0x12560953, 0x96744668, 0x67446698, 0x668e33ef];

export const behaviour: Behaviour = {
  title: 'a request that does not begin with its magic number, or with the one of the other kind of header, ends the connection',
  section: 'Transmission phase: request message',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    for (const magic of [...MAGICS, style === 'extended' ? 0x25609513 : 0x21e41c71]) {
      const client = await subject.open(style);
      const fields = { command: NBD_CMD_READ, cookie: Buffer.alloc(8, 1), offset: 0, length: 512, magic };
      client.send(Buffer.concat([headerBytes(style, fields), Buffer.alloc(64)]));
      await client.expectEnd();
    }
  },
};
