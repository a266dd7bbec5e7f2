import { NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'with structured replies, a request that is no READ fails with one, too',
  section: 'Structured replies',
  checklist: '1.4',
  level: 'SHOULD',
  styles: ['structured', 'extended'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    client.reader.allowsSimpleErrors = false;
    await subject.answers(client, { command: 99, offset: 0, length: 0 }, [NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
