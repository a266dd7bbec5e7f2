/** Breaks of what a bucket promises; the worlds of `make remote-worlds` must find each within 500 seeds. */
import type { Mutant } from './mutants.ts';

export const REMOTE_MUTANTS: readonly Mutant[] = [
  {
    name: 'a root is put before its chunks',
    invariant: 'I5',
    taste: 'remote',
    edits: [{ file: 'volume/shipper.js', find: 'const missing = await this.#shipAll([...keys]', replace: 'await this.#putRoot(manifest);\n        const missing = await this.#shipAll([...keys]' }],
  },
  {
    name: 'the epoch is not looked at behind what was put',
    invariant: 'I7',
    taste: 'remote',
    edits: [{ file: 'volume/remote-state.js', find: 'if ((await this.#remote.head(claimKey(this.epoch + 1))) === null)', replace: 'if (this.epoch > 0)' }],
  },
  {
    name: 'who takes a volume over does not look again behind the claim',
    invariant: 'I7',
    taste: 'remote',
    edits: [{ file: 'volume/restore-volume.js', find: 'const state = await readRemoteState(remote, volumeId);', replace: 'const state = before;' }],
  },
  {
    name: 'what is not shipped is evicted',
    invariant: 'I1',
    taste: 'remote',
    edits: [
      { file: 'store/tiered-store.js', find: 'this.#unshippedBytes += sizeBytes;', replace: 'this.#unshippedBytes += sizeBytes;\n        this.#cache.count(key, sizeBytes);' },
      { file: 'store/tiered-store.js', find: 'assert(this.#shipped.has(key), `', replace: 'assert(key.length > 0, `' },
    ],
  },
  {
    name: 'what was fetched ahead is taken for sound',
    invariant: 'I3',
    taste: 'remote',
    edits: [{ file: 'store/ahead-objects.js', find: 'this.#needs.drop();\n        return true;', replace: 'return false;' }],
  },
  {
    name: 'rot is shipped',
    invariant: 'I3',
    taste: 'remote',
    edits: [{ file: 'store/tiered-store.js', find: 'if (problem === null)', replace: 'if (problem !== "")' }],
  },
  {
    name: 'a flush for the bucket is answered when the chunks are here',
    invariant: 'I1',
    taste: 'remote',
    edits: [{ file: 'volume/remote-flush.js', find: 'await this.#options.ship();', replace: 'await Promise.resolve();' }],
  },
  {
    name: 'a set of which a part is missing counts',
    invariant: 'I2',
    taste: 'remote',
    edits: [{ file: 'volume/remote-chain.js', find: ' && set.found.size === set.parts)', replace: ')' }],
  },
  {
    name: 'a follower takes what it lists for certain while the volume changes hands',
    invariant: 'I7',
    taste: 'remote',
    first: 95,
    edits: [
      { file: 'volume/certain-state.js', find: 'if ((await remote.head(claimKey(claim.epoch + 1))) === null)', replace: 'if (claim.epoch > 0)' },
      { file: 'volume/certain-state.js', find: 'if (claim.epoch > root.manifest.epoch)', replace: 'if (claim.epoch < 0)' },
    ],
  },
  {
    name: 'a follower reads on in a state of which objects have gone',
    invariant: 'I2',
    taste: 'remote',
    edits: [{ file: 'volume/followed-volume.js', find: 'this.#view = view;\n        this.#parts', replace: 'this.#view = this.#moves % 2 === 1 ? before : view;\n        this.#parts' }],
  },
  {
    name: 'whatever is not here is an orphan',
    invariant: 'I6',
    taste: 'remote',
    edits: [
      { file: 'volume/attach-remote.js', find: '(key) => !here.has(key) && !isAway(key)', replace: '(key) => !here.has(key)' },
      { file: 'volume/orphans.js', find: 'assert(!isInUse(key), `', replace: 'assert(!isInUse("") || key.length > 0, `' },
    ],
  },
];
