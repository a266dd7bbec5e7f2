import { NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'WRITE_ZEROES reads back as zeroes, in any length up to all of the export behind 1 MiB, with and without NO_HOLE',
  section: 'NBD_CMD_WRITE_ZEROES',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['write zeroes', 'writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const size = Number(subject.facts.export.sizeBytes);
    for (const flags of [0, NBD_CMD_FLAG_NO_HOLE]) {
      await client.write(0, pattern(MIB, 1));
      await subject.answers(client, { command: NBD_CMD_WRITE_ZEROES, flags, offset: 0, length: MIB }, [0]);
      expectBytes('what was zeroed', await client.read(0, MIB), Buffer.alloc(MIB));
    }
    await client.write(size - MIB, pattern(MIB, 2));
    await subject.answers(client, { command: NBD_CMD_WRITE_ZEROES, offset: MIB, length: Math.min(size - MIB, 0xffff_f000) }, [0]);
    if (size - MIB < 0xffff_f000) expectBytes('the end of what was zeroed', await client.read(size - MIB, MIB), Buffer.alloc(MIB));
    await subject.stillTransmits(client);
  },
};
