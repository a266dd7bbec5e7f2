import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'FUA is accepted on every command, also where it means nothing',
  section: 'NBD_CMD_FLAG_FUA',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['fua', 'writable'],
  run: async (subject, style) => {
    const contexts = style !== 'simple' && subject.facts.contexts.includes('base:allocation') ? ['base:allocation'] : [];
    const client = await subject.open(style, { contexts });
    const { unit } = subject.facts;
    const flags = NBD_CMD_FLAG_FUA;
    await subject.answers(client, { command: NBD_CMD_WRITE, flags, offset: 0, payload: pattern(unit, 8) }, [0]);
    const { data } = await subject.answers(client, { command: NBD_CMD_READ, flags, offset: 0, length: unit }, [0]);
    expectBytes('what was written with FUA', data, pattern(unit, 8));
    for (const command of advertised(subject, [NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE])) {
      await subject.answers(client, { command, flags, offset: 0, length: command === NBD_CMD_FLUSH ? 0 : unit }, [0]);
    }
    if (contexts.length > 0) await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, flags, offset: 0, length: unit }, [0]);
    await subject.stillTransmits(client);
  },
};
