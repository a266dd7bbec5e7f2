import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_READ, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { headerBytes } from '../../suite/steps.ts';

const PATIENCE_MS = 1000;

export const behaviour: Behaviour = {
  title: 'a payload of 2^63 bytes ends the connection, at the latest when the client leaves',
  section: 'NBD_CMD_FLAG_PAYLOAD_LEN [ext]',
  checklist: '1.4',
  level: 'MUST',
  styles: ['extended'],
  run: async (subject, style) => {
    for (const command of [NBD_CMD_WRITE, NBD_CMD_BLOCK_STATUS, NBD_CMD_READ]) {
      const client = await subject.open(style);
      client.send(headerBytes(style, { command, flags: NBD_CMD_FLAG_PAYLOAD_LEN, cookie: Buffer.alloc(8, 1), offset: 0, length: 2n ** 63n }));
      const timer = setTimeout(() => client.endInput(), PATIENCE_MS);
      await client.expectEnd();
      clearTimeout(timer);
    }
  },
};
