import { NBD_CMD_DISC, NBD_CMD_READ, NBD_OPT_GO } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, requestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectBytes } from '../../suite/check.ts';

const COOKIE = Buffer.from('0011223344556677', 'hex');

export const behaviour: Behaviour = {
  title: 'three requests under way with one cookie are answered three times',
  section: 'Transmission phase: request message',
  checklist: '1.5',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    await client.option(NBD_OPT_GO, infoRequestBytes(subject.target.exportName)); // the bytes that follow are looked at here
    const { unit } = subject.facts;
    const request = requestBytes({ command: NBD_CMD_READ, cookie: COOKIE, offset: 0, length: unit });
    client.send(Buffer.concat([request, request, request]));
    const header = Buffer.concat([Buffer.from('6744669800000000', 'hex'), COOKIE]);
    const first = await client.take(16 + unit);
    expectBytes('the header of a reply', first.subarray(0, 16), header);
    for (let count = 1; count < 3; count += 1) expectBytes('the next reply', await client.take(16 + unit), first);
    client.send(requestBytes({ command: NBD_CMD_DISC, cookie: COOKIE }));
    await client.expectEnd();
  },
};
