import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EOVERFLOW,
} from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectBytes, pattern, skip } from '../../suite/check.ts';
import { advertised } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'lengths of 4 GiB and more are lengths: past the end of the export they are refused, not cut',
  section: 'Extended request header [ext]',
  checklist: '1.4',
  level: 'MUST',
  styles: ['extended'],
  needs: ['writable', 'base:allocation'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: ['base:allocation'] });
    const { unit, export: info } = subject.facts;
    if (info.sizeBytes >= 2n ** 32n) skip('the export is larger than 4 GiB');
    await client.write(0, pattern(unit, 1));
    for (const command of [NBD_CMD_READ, NBD_CMD_BLOCK_STATUS, ...advertised(subject, [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE])]) {
      for (const length of [2n ** 32n, 2n ** 32n + BigInt(unit), 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) await subject.answers(client, { command, offset: 0, length }, [NBD_EINVAL, NBD_ENOSPC, NBD_EOVERFLOW]);
    }
    expectBytes('the range', await client.read(0, unit), pattern(unit, 1));
    await subject.stillTransmits(client);
  },
};
