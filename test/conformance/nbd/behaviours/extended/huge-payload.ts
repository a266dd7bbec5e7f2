import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_READ, NBD_CMD_WRITE, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';
import { errorName } from '../../suite/names.ts';
import { errorOrEnd, headerBytes } from '../../suite/steps.ts';

const PATIENCE_MS = 1000;
const COOKIE = Buffer.alloc(8, 1);

export const behaviour: Behaviour = {
  title: 'a payload of 2^63 bytes ends the connection, at the latest when the client leaves, perhaps behind an EINVAL',
  section: 'NBD_CMD_FLAG_PAYLOAD_LEN [ext]',
  checklist: '1.4',
  level: 'MUST',
  styles: ['extended'],
  run: async (subject, style) => {
    for (const command of [NBD_CMD_WRITE, NBD_CMD_BLOCK_STATUS, NBD_CMD_READ]) {
      const client = await subject.open(style);
      const wire = headerBytes(style, { command, flags: NBD_CMD_FLAG_PAYLOAD_LEN, cookie: COOKIE, offset: 0, length: 2n ** 63n });
      const timer = setTimeout(() => client.endInput(), PATIENCE_MS);
      const [error] = await Promise.all([errorOrEnd(client, { command, cookie: COOKIE, wire }), client.expectEnd()]);
      clearTimeout(timer);
      must(error === null || error === NBD_EINVAL, 'the answer, if any', { expected: 'EINVAL', got: errorName(error ?? 0) });
    }
  },
};
