import { NBD_CMD_WRITE, NBD_EINVAL, NBD_ENOMEM, NBD_ENOSPC, NBD_EOVERFLOW } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf, skip } from '../../suite/check.ts';
import { errorName } from '../../suite/names.ts';
import { isDisconnection } from '../../suite/steps.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'a WRITE above the largest payload is done, refused with its payload skipped, or ends the connection',
  section: 'Block size constraints',
  checklist: '1.4',
  level: 'MAY',
  styles: ['simple', 'extended'],
  needs: ['writable'],
  run: async (subject, style) => {
    const maximum = subject.facts.export.blockSizes?.maximum ?? 32 * MIB;
    if (maximum > 64 * MIB && maximum < 0xffffffff) skip(`the largest payload is ${maximum} bytes`);
    const length = maximum === 0xffffffff ? 33 * MIB : maximum + subject.facts.unit;
    const client = await subject.open(style);
    try {
      const { error } = await client.request({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(length, 1) });
      expectOneOf('the answer', error, [0, NBD_EINVAL, NBD_ENOSPC, NBD_EOVERFLOW, NBD_ENOMEM], errorName);
      subject.remark = errorName(error);
      await subject.stillTransmits(client);
    } catch (error) {
      if (!isDisconnection(error)) throw error;
      subject.remark += `${subject.remark === '' ? '' : ', then '}the connection ended`;
    }
  },
};
