import { NBD_CMD_CACHE, NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'requests off the minimum block size are refused; without one, every byte can be read and written',
  section: 'Block size constraints',
  checklist: '1.2',
  level: 'SHOULD',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const minimum = subject.facts.export.blockSizes?.minimum ?? 1;
    const { unit } = subject.facts;
    await client.write(0, pattern(2 * unit, 1));
    const allowed = minimum > 1 ? [NBD_EINVAL] : [0];
    for (const [offset, length] of [[1, unit], [0, unit - 1], [unit - 1, 2], [511, 513]] as const) {
      const { error } = await subject.answers(client, { command: NBD_CMD_WRITE, offset, payload: pattern(length, 2) }, allowed);
      const { data } = await subject.answers(client, { command: NBD_CMD_READ, offset, length }, allowed);
      if (error === 0) expectBytes(`what was written to ${offset}+${length}`, data, pattern(length, 2));
      for (const command of advertised(subject, [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE])) await subject.answers(client, { command, offset, length }, allowed);
    }
    await subject.stillTransmits(client);
  },
};
