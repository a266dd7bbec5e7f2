import { NBD_CMD_BLOCK_STATUS, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { statusPayloadBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'BLOCK_STATUS with a payload of unknown ids, of one twice, or of an odd length is refused, and the payload skipped',
  section: 'NBD_FLAG_BLOCK_STATUS_PAYLOAD [ext]',
  checklist: '1.4',
  level: 'MUST',
  styles: ['extended'],
  needs: ['base:allocation'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: ['base:allocation'] });
    const length = subject.facts.unit;
    const id = client.reader.contexts[0]?.id ?? 0;
    const payloads = [statusPayloadBytes(length, [id + 1]), statusPayloadBytes(length, [id, id]), statusPayloadBytes(length, [id]).subarray(0, -1), Buffer.alloc(4), Buffer.alloc(100_000)];
    for (const payload of payloads) await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, payload }, [NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
