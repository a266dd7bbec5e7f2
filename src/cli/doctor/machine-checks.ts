/** What must be right about the machine, whatever is served on it. */
import { formatSize } from '../../base/units.ts';
import type { ProgramSettings } from '../../config/settings.ts';
import { failure, type Finding, ok, warning } from './findings.ts';
import type { Host } from './host.ts';

/** As in `engines` of package.json: the least minor version of a major one; from the last on all. */
export const NODE_MINORS: ReadonlyMap<number, number> = new Map([[20, 19], [22, 12]]);
export const NODE_ALL_FROM = 24;
const ARCHITECTURES: ReadonlySet<string> = new Set(['x64', 'arm64']);
/** This program is younger than that. */
const LEAST_WALL_MS = Date.UTC(2026, 10, 1);
/** Files besides clients, chunks and logs: threads, sockets, manifests, what Node has open. */
const OTHER_FILES = 128;
const GENERIC_NETLINK = '16';

export async function checkMachine(host: Host): Promise<Finding[]> {
  return [checkNode(host), checkPlatform(host), await checkFlock(host), ...checkPackages(host), await checkNbd(host), await checkNetlink(host), await checkClock(host)];
}

function checkNode({ nodeVersion }: Host): Finding {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const leastMinor = NODE_MINORS.get(major);
  if (major >= NODE_ALL_FROM || (leastMinor !== undefined && minor >= leastMinor)) return ok('node', `Node ${nodeVersion}`);
  const wanted = [...[...NODE_MINORS].map(([ofMajor, least]) => `${ofMajor}.${least} or a later ${ofMajor}`), `${NODE_ALL_FROM} or later`].join(', ');
  return failure('node', `Node ${nodeVersion} is none that basalt is tested with: ${wanted}`, `install Node ${NODE_ALL_FROM}: https://nodejs.org/en/download, or nvm install ${NODE_ALL_FROM}`);
}

function checkPlatform({ platform, architecture, kernel }: Host): Finding {
  if (platform !== 'linux') return warning('system', `${platform}: basalt is made for Linux; volumes are locked with flock of util-linux, and /dev/nbd0 is Linux's`, 'run it on Linux, in a virtual machine or in WSL 2');
  if (!ARCHITECTURES.has(architecture)) return warning('system', `Linux ${kernel} on ${architecture}: basalt is tested on x64 and arm64`, null);
  return ok('system', `Linux ${kernel}, ${architecture}`);
}

async function checkFlock(host: Host): Promise<Finding> {
  const version = await host.run('flock', '--version');
  if (version === null) return failure('flock', 'the program flock is missing: volumes are locked with it, and none can be opened', 'sudo apt-get install util-linux');
  return ok('flock', version);
}

function checkPackages(host: Host): Finding[] {
  const obstacle = host.koffiObstacle();
  return [
    host.hasFastChecksum
      ? ok('package crc32', '@node-rs/crc32 computes checksums')
      : warning('package crc32', 'the optional package @node-rs/crc32 does not load: checksums are computed by Node, the same ones at more processor time', 'npm install @node-rs/crc32 where basalt is installed'),
    obstacle === null
      ? ok('package koffi', 'koffi loads')
      : warning('package koffi', `engine.log_io = "mmap" is not possible, nor netlink, and memory that is not needed is kept: ${obstacle}`, 'npm install koffi where basalt is installed'),
  ];
}

async function checkNbd(host: Host): Promise<Finding> {
  if ((await host.look('/sys/module/nbd')) !== null || (await host.look('/sys/block/nbd0')) !== null) return ok('nbd module', 'the kernel has nbd');
  const folder = `/lib/modules/${host.kernel}`;
  const names = await Promise.all(['modules.dep', 'modules.builtin'].map((name) => host.readText(`${folder}/${name}`)));
  if (names.some((text) => text !== null && /(?:^|\/)nbd\.ko/m.test(text))) return warning('nbd module', 'the nbd module is there and not loaded: no /dev/nbd0 yet', 'sudo modprobe nbd; echo nbd | sudo tee /etc/modules-load.d/nbd.conf (for the next restarts, too)');
  return warning('nbd module', `kernel ${host.kernel} has no nbd module here: volumes cannot be attached as /dev/nbd0; qemu, libnbd and nbdfuse do without`, 'sudo apt-get install linux-modules-extra-$(uname -r) (Ubuntu), or a kernel with CONFIG_BLK_DEV_NBD');
}

/** Netlink is how a device is attached so that it outlives its server; nbd-client does what is possible without. */
async function checkNetlink(host: Host): Promise<Finding> {
  const table = await host.readText('/proc/net/netlink');
  const isThere = table !== null && table.split('\n').slice(1).some((line) => line.trim().split(/\s+/)[1] === GENERIC_NETLINK);
  const koffi = host.koffiObstacle() === null;
  if (isThere && koffi) return ok('netlink', 'generic netlink is there, and koffi to speak it');
  const missing = isThere ? 'koffi, which speaks it, is missing' : 'the kernel has no generic netlink for this process';
  if ((await host.run('nbd-client', '--version')) !== null || (await host.look('/usr/sbin/nbd-client')) !== null) return warning('netlink', `${missing}; nbd-client is there`, koffi ? null : 'npm install koffi where basalt is installed');
  return warning('netlink', `${missing}, and so is nbd-client: nothing here attaches a volume as /dev/nbd0`, 'sudo apt-get install nbd-client');
}

async function checkClock(host: Host): Promise<Finding> {
  const now = new Date(host.wallMs()).toISOString();
  const mend = 'sudo timedatectl set-ntp true';
  if (host.wallMs() < LEAST_WALL_MS) return failure('clock', `the clock says ${now}, which is before this program was made: certificates and buckets refuse it`, `${mend}, or sudo date --set=...`);
  const synchronized = await host.run('timedatectl', 'show', '--property=NTPSynchronized', '--value');
  if (synchronized === 'no') return warning('clock', `${now}; nothing keeps the clock right, and a bucket refuses one that is 15 minutes wrong`, mend);
  return ok('clock', synchronized === 'yes' ? `${now}, kept right` : `${now}; what keeps it right is not known here`);
}

/** Limits that depend on the settings. */
export async function checkLimits(host: Host, settings: ProgramSettings): Promise<Finding[]> {
  return [await checkOpenFiles(host, settings), await checkMemory(host, settings)];
}

async function checkOpenFiles(host: Host, { engine, server }: ProgramSettings): Promise<Finding> {
  const needed = server.maxConnections + engine.openChunkFiles + 2 * engine.logFileCount + OTHER_FILES;
  // Node takes all that it may have: the second number, the hard limit, counts.
  const text = /^Max open files\s+\S+\s+(\S+)/m.exec((await host.readText('/proc/self/limits')) ?? '')?.[1];
  if (text === undefined) return ok('open files', 'the limit of open files is not known here');
  if (text === 'unlimited' || Number(text) >= needed) return ok('open files', `${text} may be open; ${needed} are needed with one volume`);
  return warning('open files', `only ${text} files may be open; ${server.maxConnections} connections and a volume take up to ${needed}`, `ulimit -Hn ${needed} as root, LimitNOFILE=${needed} in a systemd unit, or smaller server.max_connections and engine.open_chunk_files`);
}

async function checkMemory(host: Host, { engine, server }: ProgramSettings): Promise<Finding> {
  const limit = Number((await host.readText('/sys/fs/cgroup/memory.max')) ?? Number.NaN);
  const memoryBytes = Number.isSafeInteger(limit) && limit > 0 ? Math.min(limit, host.memoryBytes) : host.memoryBytes;
  const mostBytes = engine.arenaBytes + engine.indexBytes + engine.chunkTableBytes + server.replyBytes + server.payloadBytes;
  const sum = `up to ${formatSize(mostBytes)} for blocks, one volume's map, replies and payloads, of ${formatSize(memoryBytes)}`;
  if (mostBytes > memoryBytes) return warning('memory', `${sum}: that is more than there is`, 'smaller engine.arena_bytes, server.reply_bytes and server.payload_bytes, or basalt settings --profile jetson-sd > basalt.toml');
  return ok('memory', sum);
}
