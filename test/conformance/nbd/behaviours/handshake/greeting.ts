import { clientFlagsBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectBytes, must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'the server speaks first, in 18 bytes, and promises nothing but what the document has',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.connect();
    const greeting = await client.take(18);
    expectBytes('the greeting', greeting.subarray(0, 16), Buffer.from('NBDMAGICIHAVEOPT'));
    const flags = greeting.readUInt16BE(16);
    must((flags & ~3) === 0 && (flags & 1) !== 0, 'handshake flags', { expected: 'FIXED_NEWSTYLE, perhaps NO_ZEROES, no other bit', got: `0x${flags.toString(16)}` });
    client.send(clientFlagsBytes(3));
    if (subject.target.tls !== null) await client.startTls(subject.target.tls);
    await subject.isInSync(client);
  },
};
