/** Sizes that decide how the data of a read gets into its reply. */

/** Reads from this size on are lent by the device: below it a copy costs less than a part of its own. */
export const LENT_READ_BYTES_MIN = 32 * 1024;

/** Data of a read that had to wait is copied beside other replies up to this size; above it, it is a part of its own. */
export const GATHERED_READ_BYTES_MAX = 32 * 1024;
