import { NBD_CMD_FLAG_DF, NBD_CMD_READ, NBD_EOVERFLOW } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'a READ of data and holes is answered whole: each byte once, in any number of chunks, the last one DONE',
  section: 'Structured reply types',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const expected = Buffer.alloc(MIB);
    if (subject.lacks('write zeroes') === null) await client.zero(0, MIB);
    else await client.write(0, expected);
    const step = 16 * subject.facts.unit;
    for (let at = step; at + step <= MIB; at += 2 * step) {
      const payload = pattern(subject.facts.unit, at);
      expected.set(payload, at);
      await client.write(at, payload);
    }
    for (const flags of style === 'simple' ? [0] : [0, NBD_CMD_FLAG_DF]) {
      const { data, pieces } = await subject.answers(client, { command: NBD_CMD_READ, flags, offset: 0, length: MIB }, flags === 0 ? [0] : [0, NBD_EOVERFLOW]);
      if (data.length > 0) expectBytes('what was read', data, expected);
      if (flags === 0) subject.remark = style === 'simple' ? '' : `${pieces.length} chunks, ${pieces.filter(({ kind }) => kind === 'hole').length} holes`;
    }
    await subject.stillTransmits(client);
  },
};
