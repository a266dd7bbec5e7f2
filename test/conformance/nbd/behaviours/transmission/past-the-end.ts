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
import { expectBytes, pattern } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'a request that reaches past the end fails: READ, TRIM, CACHE and BLOCK_STATUS with EINVAL, WRITE and WRITE_ZEROES with ENOSPC, and has done nothing',
  section: 'Error values',
  checklist: '1.4',
  level: 'SHOULD',
  styles: STYLES,
  run: async (subject, style) => {
    const contexts = style !== 'simple' && subject.facts.contexts.includes('base:allocation') ? ['base:allocation'] : [];
    const client = await subject.open(style, { contexts });
    const { unit, export: info } = subject.facts;
    const last = Number(info.sizeBytes) - unit;
    const before = await client.read(last, unit);
    const commands = [NBD_CMD_READ, ...(contexts.length > 0 ? [NBD_CMD_BLOCK_STATUS] : []), ...advertised(subject, [NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE])];
    for (const command of commands) {
      const isWrite = command === NBD_CMD_WRITE || command === NBD_CMD_WRITE_ZEROES;
      const content = (length: number): { payload: Buffer } | { length: number } => (command === NBD_CMD_WRITE ? { payload: pattern(length, 9) } : { length });
      for (const [offset, length] of [[last, 2 * unit], [last + unit, unit], [last + 100 * unit, unit]] as const) {
        await subject.answers(client, { command, offset, ...content(length) }, [isWrite ? NBD_ENOSPC : NBD_EINVAL]);
      }
    }
    expectBytes('the last bytes', await client.read(last, unit), before);
    await subject.stillTransmits(client);
  },
};
