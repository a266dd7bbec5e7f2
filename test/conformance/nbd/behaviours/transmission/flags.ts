import {
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_RESIZE,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'transmission flags go together: none is reserved, SEND_DF goes with structured replies, nothing is resized',
  section: 'Transmission flags',
  checklist: '1.3',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    const contexts = style !== 'simple' && subject.facts.contexts.includes('base:allocation') ? ['base:allocation'] : [];
    const client = await subject.open(style, { contexts });
    const flags = client.export?.transmissionFlags ?? 0;
    const has = (flag: number): boolean => (flags & flag) !== 0;
    const got = `0x${flags.toString(16)}`;
    must(has(NBD_FLAG_HAS_FLAGS), 'transmission flags', { expected: 'HAS_FLAGS', got });
    must(flags < 1 << 13, 'transmission flags', { expected: 'no reserved bit', got });
    must(!has(NBD_FLAG_SEND_DF) || style !== 'simple', 'transmission flags', { expected: 'no SEND_DF without structured replies', got });
    must(!has(NBD_FLAG_SEND_FAST_ZERO) || has(NBD_FLAG_SEND_WRITE_ZEROES), 'transmission flags', { expected: 'SEND_FAST_ZERO with SEND_WRITE_ZEROES only', got });
    must(!has(NBD_FLAG_BLOCK_STATUS_PAYLOAD) || (style === 'extended' && contexts.length > 0), 'transmission flags', { expected: 'BLOCK_STATUS_PAYLOAD with extended headers and contexts only', got });
    must(!has(NBD_FLAG_SEND_RESIZE), 'transmission flags', { expected: 'no SEND_RESIZE', got });
    await subject.stillTransmits(client);
  },
};
