import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'requests that arrive byte by byte are the same requests',
  section: 'Transmission phase: request message',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const payload = pattern(subject.facts.unit, 6).subarray(0, subject.facts.unit);
    const sent = client.send.bind(client);
    client.send = (bytes) => {
      for (const byte of bytes.subarray(0, 80)) sent(Buffer.from([byte]));
      if (bytes.length > 80) sent(bytes.subarray(80));
    };
    await subject.answers(client, { command: NBD_CMD_WRITE, offset: 0, payload }, [0]);
    const { data } = await subject.answers(client, { command: NBD_CMD_READ, offset: 0, length: payload.length }, [0]);
    expectBytes('what was written', data, payload);
    await subject.stillTransmits(client);
  },
};
