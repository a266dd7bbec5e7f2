import {
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
} from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

const UNKNOWN = [6, 7, 10, 15].map((bit) => 1 << bit);

export const behaviour: Behaviour = {
  title: 'flags that are unknown, or do not belong to their command, are refused, and the payload of a WRITE is skipped',
  section: 'Command flags',
  checklist: '1.4',
  level: 'SHOULD',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit } = subject.facts;
    await client.write(0, pattern(unit, 1));
    const misplaced: Readonly<Record<number, readonly number[]>> = {
      [NBD_CMD_READ]: [NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_FAST_ZERO, ...(style === 'simple' ? [NBD_CMD_FLAG_DF] : [])],
      [NBD_CMD_WRITE]: [NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_DF, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_FAST_ZERO],
      [NBD_CMD_TRIM]: [NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_DF, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_FAST_ZERO],
      [NBD_CMD_WRITE_ZEROES]: [NBD_CMD_FLAG_DF, NBD_CMD_FLAG_REQ_ONE],
      [NBD_CMD_CACHE]: [NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_DF, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_FAST_ZERO],
      [NBD_CMD_FLUSH]: [NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_DF, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_FAST_ZERO],
    };
    for (const command of [NBD_CMD_READ, ...advertised(subject, [NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE, NBD_CMD_FLUSH])]) {
      const content = command === NBD_CMD_WRITE ? { payload: pattern(unit, 2) } : { length: command === NBD_CMD_FLUSH ? 0 : unit };
      const compactOnly = style === 'extended' ? [] : [NBD_CMD_FLAG_PAYLOAD_LEN];
      for (const flags of [...(misplaced[command] ?? []), ...UNKNOWN, ...compactOnly]) await subject.answers(client, { command, flags, offset: 0, ...content }, [NBD_EINVAL]);
    }
    expectBytes('the range', await client.read(0, unit), pattern(unit, 1));
    await subject.stillTransmits(client);
  },
};
