import type { Behaviour } from '../../suite/behaviour.ts';
import { must, skip } from '../../suite/check.ts';

const isPowerOfTwo = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));

export const behaviour: Behaviour = {
  title: 'the block sizes that an export tells go together',
  section: 'NBD_INFO_BLOCK_SIZE',
  checklist: '1.1',
  level: 'MUST',
  run: async (subject) => {
    const { blockSizes: sizes, sizeBytes } = subject.facts.export;
    if (sizes === null) skip('tells no block sizes');
    const got = `${sizes.minimum}, ${sizes.preferred}, ${sizes.maximum}`;
    must(isPowerOfTwo(sizes.minimum) && sizes.minimum <= 65_536, 'the minimum block size', { expected: 'a power of 2 up to 65536', got });
    must(isPowerOfTwo(sizes.preferred) && sizes.preferred >= Math.max(512, sizes.minimum), 'the preferred block size', { expected: 'a power of 2 from 512 and the minimum', got });
    const isWhole = sizes.maximum % sizes.minimum === 0 || sizes.maximum === 0xffffffff;
    must(isWhole && (BigInt(sizes.maximum) >= sizeBytes || sizes.maximum >= sizes.preferred), 'the maximum block size', { expected: 'a multiple of the minimum, not below the preferred one', got });
    must(sizeBytes % BigInt(sizes.minimum) === 0n, 'the size of the export', { expected: `a multiple of ${sizes.minimum}`, got: String(sizeBytes) });
    await subject.serves();
  },
};
