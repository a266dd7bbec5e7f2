import { MAX_STRING_BYTES } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'LIST names exports, each with names that are names, and can be opened',
  section: 'NBD_OPT_LIST',
  checklist: '1.2',
  level: 'MUST',
  needs: ['list'],
  run: async (subject) => {
    const client = await subject.negotiating();
    const exports = await client.list();
    for (const { name, description } of exports) {
      for (const text of [name, description]) {
        must(Buffer.byteLength(text) <= MAX_STRING_BYTES && !/[\0\uFFFD]/.test(text), 'a name of LIST', { expected: 'at most 4096 bytes of UTF-8 without NUL', got: JSON.stringify(text) });
      }
      await client.info(name);
    }
    const { exportName } = subject.target;
    const isThere = exportName === '' || exports.some(({ name }) => name === exportName);
    if (!isThere) subject.remark = `${exports.length} exports, ${JSON.stringify(exportName)} is none of them`;
    await subject.isInSync(client);
  },
};
