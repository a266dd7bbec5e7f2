import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a write, or zeroes, change what they name and no byte beside it',
  section: 'NBD_CMD_WRITE',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable', 'write zeroes'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const minimum = subject.facts.export.blockSizes?.minimum ?? 1;
    const { unit } = subject.facts;
    const expected = pattern(4 * unit, 5);
    await client.write(0, expected);
    const written = pattern(Math.max(minimum, 700), 6);
    expected.set(written, unit + minimum);
    await client.write(unit + minimum, written);
    expected.fill(0, 3 * unit - minimum, 3 * unit + minimum);
    await client.zero(3 * unit - minimum, 2 * minimum);
    expectBytes('the range', await client.read(0, expected.length), expected);
    await subject.stillTransmits(client);
  },
};
