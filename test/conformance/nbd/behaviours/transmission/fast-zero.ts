import { NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, NBD_ENOTSUP } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'WRITE_ZEROES with FAST_ZERO zeroes, or says ENOTSUP and has changed nothing',
  section: 'NBD_CMD_FLAG_FAST_ZERO',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['fast zero', 'writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const length = 16 * subject.facts.unit;
    for (const flags of [NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE]) {
      await client.write(0, pattern(length, 4));
      const { error } = await subject.answers(client, { command: NBD_CMD_WRITE_ZEROES, flags, offset: 0, length }, [0, NBD_ENOTSUP]);
      expectBytes('the range', await client.read(0, length), error === 0 ? Buffer.alloc(length) : pattern(length, 4));
    }
    await subject.stillTransmits(client);
  },
};
