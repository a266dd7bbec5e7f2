import { NBD_CMD_WRITE, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { extendedRequestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a WRITE without PAYLOAD_LEN is taken with its payload, or refused and the payload skipped',
  section: 'NBD_CMD_FLAG_PAYLOAD_LEN [ext]',
  checklist: '1.4',
  level: 'MAY',
  styles: ['extended'],
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit } = subject.facts;
    await client.write(0, pattern(unit, 1));
    const cookie = Buffer.alloc(8, 7);
    const fields = { command: NBD_CMD_WRITE, cookie, offset: 0, payload: pattern(unit, 2) };
    const { error } = await subject.answers(client, { ...fields, wire: extendedRequestBytes(fields) }, [0, NBD_EINVAL]);
    expectBytes('the range', await client.read(0, unit), pattern(unit, error === 0 ? 2 : 1));
    await subject.stillTransmits(client);
  },
};
