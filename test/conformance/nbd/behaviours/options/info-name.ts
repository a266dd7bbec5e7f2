import { MAX_STRING_BYTES } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, must, skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'the name and the description that an export tells are strings, and the name opens it',
  section: 'NBD_INFO_NAME',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    const { name, description } = await client.info(subject.target.exportName, [1, 2]);
    if (name === null) skip('tells no name');
    for (const text of [name, description ?? '']) {
      must(Buffer.byteLength(text) <= MAX_STRING_BYTES && !/[\0\uFFFD]/.test(text), 'a string', { expected: 'at most 4096 bytes of UTF-8 without NUL', got: JSON.stringify(text) });
    }
    expectEqual('the size of the export of that name', (await client.info(name)).sizeBytes, subject.facts.export.sizeBytes);
    await subject.isInSync(client);
  },
};
