import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
} from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'a request of no bytes is answered, one way or the other, and the connection goes on',
  section: 'Request types',
  checklist: '1.4',
  level: 'SHOULD',
  styles: STYLES,
  run: async (subject, style) => {
    const contexts = style !== 'simple' && subject.facts.contexts.includes('base:allocation') ? ['base:allocation'] : [];
    const client = await subject.open(style, { contexts });
    for (const command of [NBD_CMD_READ, ...advertised(subject, [NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE])]) {
      const content = command === NBD_CMD_WRITE ? { payload: Buffer.alloc(0) } : { length: 0 };
      const { pieces } = await subject.answers(client, { command, offset: 0, ...content }, [0, NBD_EINVAL, NBD_ENOSPC]);
      expectEqual('the number of chunks of content', pieces.length, 0);
    }
    if (contexts.length > 0) await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 0 }, [NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
