import { NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_EINVAL, NBD_EPERM, NBD_FLAG_READ_ONLY } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, must, skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a read-only export says so, refuses WRITE, TRIM and WRITE_ZEROES with EPERM, and skips the payload',
  section: 'NBD_FLAG_READ_ONLY',
  checklist: '1.3',
  level: 'SHOULD',
  styles: STYLES,
  needs: ['a read-only export'],
  run: async (subject, style) => {
    const target = subject.facts.readOnly ? subject.target : subject.target.readOnly;
    if (target === null) skip('no read-only export is known');
    const client = await subject.negotiating(3, target);
    if (style !== 'simple') await client.agree(style);
    const { transmissionFlags: flags } = await client.go(target.exportName);
    must((flags & NBD_FLAG_READ_ONLY) !== 0, 'transmission flags', { expected: 'READ_ONLY', got: `0x${flags.toString(16)}` });
    const before = await client.read(0, 4096);
    await subject.answers(client, { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096, 0xee) }, [NBD_EPERM]);
    // A server that does not advertise these may have forgotten them altogether.
    for (const command of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES]) await subject.answers(client, { command, offset: 0, length: 4096 }, [NBD_EPERM, NBD_EINVAL]);
    expectBytes('the range', await client.read(0, 4096), before);
    await client.close();
  },
};
