import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'what was written is read back, byte for byte, in many sizes and at odd places',
  section: 'NBD_CMD_WRITE',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const minimum = subject.facts.export.blockSizes?.minimum ?? 1;
    for (const [index, wanted] of [1, 511, 512, 4096, 65_537, 131_072, MIB + 1].entries()) {
      const length = Math.ceil(wanted / minimum) * minimum;
      const offset = index * minimum;
      const payload = pattern(length, index);
      await subject.answers(client, { command: NBD_CMD_WRITE, offset, payload }, [0]);
      const { data } = await subject.answers(client, { command: NBD_CMD_READ, offset, length }, [0]);
      expectBytes(`what was written to ${offset}+${length}`, data, payload);
    }
    await subject.stillTransmits(client);
  },
};
