/** The profiles of `config/`: files of settings for one kind of machine each. */

/** What each is for, in the words of the README's table. */
export const PROFILES = {
  'jetson-sd': 'an SD card, eMMC or a USB stick; a Jetson, a Raspberry Pi',
  nvme: 'a fast SSD, and 8 GiB of memory or more',
  wsl: 'the Linux file system of WSL 2',
  s3: 'volumes with a bucket',
  dev: 'trying things out, tests',
} as const satisfies Readonly<Record<string, string>>;

export type ProfileName = keyof typeof PROFILES;

export const PROFILE_NAMES: readonly ProfileName[] = ['jetson-sd', 'nvme', 'wsl', 's3', 'dev'];
