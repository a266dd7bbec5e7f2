import {
  NBD_CMD_CACHE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
} from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'an offset and length whose sum is 2^64 or more are refused, not wrapped around',
  section: 'Error values',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit } = subject.facts;
    const before = await client.read(0, unit);
    for (const command of [NBD_CMD_READ, ...advertised(subject, [NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE])]) {
      for (const offset of [2n ** 64n - BigInt(unit), 2n ** 63n, 2n ** 63n - BigInt(unit), 2n ** 53n]) {
        const content = command === NBD_CMD_WRITE ? { payload: pattern(2 * unit, 9) } : { length: 2 * unit };
        await subject.answers(client, { command, offset, ...content }, [NBD_EINVAL, NBD_ENOSPC]);
      }
    }
    expectBytes('the first bytes', await client.read(0, unit), before);
    await subject.stillTransmits(client);
  },
};
