import { NBD_CMD_FLAG_DF, NBD_CMD_WRITE, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes } from '../../suite/check.ts';

const MIB = 1024 * 1024;
const SECRET = 0xa5;

export const behaviour: Behaviour = {
  title: 'what was zeroed reads as zeroes in every size, whatever other requests, refused ones too, have left in memory',
  section: 'NBD_CMD_READ',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable', 'write zeroes'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const minimum = subject.facts.export.blockSizes?.minimum ?? 1;
    await client.zero(0, MIB);
    for (const wanted of [1, 17, 4095, 4097, 65_535, 200_000, MIB]) {
      const length = Math.floor(wanted / minimum) * minimum || minimum;
      const secret = Buffer.alloc(length, SECRET);
      await Promise.all([
        client.write(MIB, secret),
        subject.answers(client, { command: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_DF, offset: 0, payload: secret }, [NBD_EINVAL]),
      ]);
      const [read, zeroes] = await Promise.all([client.read(MIB, length), client.read(MIB - length, length), client.read(MIB, length)]);
      expectBytes('what was written', read, secret);
      expectBytes(`${length} zeroes`, zeroes, Buffer.alloc(length));
    }
    await subject.stillTransmits(client);
  },
};
