import { NBD_CMD_READ, NBD_CMD_RESIZE, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { errorName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'unknown commands, RESIZE among them, are refused, and what follows the header is the next request, whatever their length says',
  section: 'Request types',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.open(style);
    for (const command of [NBD_CMD_RESIZE, 9, 99, 0xffff]) {
      for (const length of [0, 4096, 0xffffffff]) await subject.answers(client, { command, offset: 0, length }, [NBD_EINVAL]);
    }
    const sizes = await client.request({ command: NBD_CMD_READ, offset: subject.facts.export.sizeBytes - BigInt(subject.facts.unit), length: subject.facts.unit });
    expectOneOf('the answer to a READ of the last bytes', sizes.error, [0], errorName); // nothing was resized
    await subject.stillTransmits(client);
  },
};
