/** What a world did: shown in sums, so that a run that tested little does not look like one that tested much. */
export const COUNTS = [
  'requests',
  'reads',
  'records',
  'opens',
  'exits',
  'processCrashes',
  'powerCuts',
  'earlyCrashes', // while a volume was being created or opened
  'lossyRecoveries', // that did not find every record
  'refusedForSpace',
  'failedCalls',
  'failedSyncs',
  'refusedForFaults',
  'failedVolumes', // took no more writes until they were opened again
  'chunks',
  'compressionChanges', // of a volume in use
  'packedVolumes', // had chunks that are smaller than their blocks, when a life ended
  'checkpoints',
  'logBytes',
  'inspections',
  'scrubs', // to their end
  'endedScrubs', // before it: by their caller, or because the volume was closed
  'rottenScrubs', // that were given rot to find, and found it
  'rottenBlockScrubs', // those of them that met it in blocks alone
  'rescuedBlocks', // that scrubs wrote anew
  'rottenChunkReads', // by anybody but a scrub
  'rottenLogReads',
  'rottenCheckpointReads',
  'readOnlyOpenings',
  'unreadableBlocks', // of volumes that were open for reading alone
  'rottenEnds', // of logs: rot that looked like a torn end
] as const;
export type WorldCounts = Record<(typeof COUNTS)[number], number>;

export function noCounts(): WorldCounts {
  return {
    requests: 0,
    reads: 0,
    records: 0,
    opens: 0,
    exits: 0,
    processCrashes: 0,
    powerCuts: 0,
    earlyCrashes: 0,
    lossyRecoveries: 0,
    refusedForSpace: 0,
    failedCalls: 0,
    failedSyncs: 0,
    refusedForFaults: 0,
    failedVolumes: 0,
    chunks: 0,
    compressionChanges: 0,
    packedVolumes: 0,
    checkpoints: 0,
    logBytes: 0,
    inspections: 0,
    scrubs: 0,
    endedScrubs: 0,
    rottenScrubs: 0,
    rottenBlockScrubs: 0,
    rescuedBlocks: 0,
    rottenChunkReads: 0,
    rottenLogReads: 0,
    rottenCheckpointReads: 0,
    readOnlyOpenings: 0,
    unreadableBlocks: 0,
    rottenEnds: 0,
  };
}

export function addCounts(sums: WorldCounts, counts: WorldCounts): void {
  for (const name of COUNTS) sums[name] += counts[name];
}
