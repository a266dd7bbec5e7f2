import { NBD_CMD_TRIM } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'TRIM is answered, of a little and of all but the first MiB, and what is written afterwards is kept',
  section: 'NBD_CMD_TRIM',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['trim', 'writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit, export: info } = subject.facts;
    const MIB = 1024 * 1024;
    await client.write(0, pattern(4 * unit, 1));
    await subject.answers(client, { command: NBD_CMD_TRIM, offset: unit, length: unit }, [0]);
    await subject.answers(client, { command: NBD_CMD_TRIM, offset: MIB, length: Math.min(Number(info.sizeBytes) - MIB, 0xffff_f000) }, [0]);
    const around = await client.read(0, 4 * unit);
    expectBytes('what stands before the trimmed range', around.subarray(0, unit), pattern(4 * unit, 1).subarray(0, unit));
    expectBytes('what stands behind it', around.subarray(2 * unit), pattern(4 * unit, 1).subarray(2 * unit));
    await client.write(unit, pattern(unit, 2));
    expectBytes('what was written to it', await client.read(unit, unit), pattern(unit, 2));
    await subject.stillTransmits(client);
  },
};
