import { NBD_CMD_CACHE, NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a payload on a command that takes none is skipped, and the command refused',
  section: 'NBD_CMD_FLAG_PAYLOAD_LEN [ext]',
  checklist: '1.4',
  level: 'MUST',
  styles: ['extended'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    for (const command of [NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE, 99]) {
      for (const length of [1, 4096, 100_000]) await subject.answers(client, { command, offset: 0, payload: Buffer.alloc(length, 0x25) }, [NBD_EINVAL]);
    }
    await subject.stillTransmits(client);
  },
};
