/**
 * Records what passes between clients and a server, and writes it as a capture file. No right to capture is needed for that: the bytes are
 * those of a relay, put into made-up packets.
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import net from 'node:net';

/** The dissector knows NBD by its bytes; the port is for who reads the capture. */
const SERVER_PORT = 10_809;
const FIRST_CLIENT_PORT = 40_000;
const PACKET_BYTES_MAX = 60_000;

interface Passed {
  readonly clientPort: number;
  readonly fromClient: boolean;
  readonly bytes: Buffer;
}

/** Relays connections to a unix socket and keeps all that is said. */
export class Recorder {
  readonly #server: net.Server;
  readonly #passed: Passed[] = [];
  #connections = 0;
  port = 0;

  private constructor(socketPath: string) {
    this.#server = net.createServer((client) => {
      const clientPort = FIRST_CLIENT_PORT + this.#connections;
      this.#connections += 1;
      const server = net.connect(socketPath);
      this.#relay(client, server, { clientPort, fromClient: true });
      this.#relay(server, client, { clientPort, fromClient: false });
    });
  }

  static async to(socketPath: string): Promise<Recorder> {
    const recorder = new Recorder(socketPath);
    recorder.#server.listen(0, '127.0.0.1');
    await once(recorder.#server, 'listening');
    const address = recorder.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    recorder.port = address.port;
    return recorder;
  }

  #relay(source: net.Socket, target: net.Socket, way: Omit<Passed, 'bytes'>): void {
    source.on('data', (bytes) => {
      this.#passed.push({ ...way, bytes });
      target.write(bytes);
    });
    source.on('end', () => target.end());
    source.on('error', () => target.destroy());
  }

  /** All that clients have said. */
  get fromClients(): Buffer {
    return Buffer.concat(this.#passed.filter(({ fromClient }) => fromClient).map(({ bytes }) => bytes));
  }

  stop(): void {
    this.#server.close();
  }

  /** Writes what was said as a capture file, and stops. */
  async save(path: string): Promise<void> {
    this.stop();
    await writeFile(path, captureOf(this.#passed));
  }
}

/** pcap: a header of 24 bytes, then `u32 seconds, u32 microseconds, u32 length, u32 length` and the bytes of each packet, which is bare IP here. */
function captureOf(passed: readonly Passed[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(0x40000, 16);
  header.writeUInt32LE(101, 20); // LINKTYPE_RAW
  const parts: Buffer[] = [header];
  const sent = new Map<string, number>();
  let count = 0;
  for (const { clientPort, fromClient, bytes } of passed) {
    for (let at = 0; at < bytes.length; at += PACKET_BYTES_MAX) {
      const payload = bytes.subarray(at, at + PACKET_BYTES_MAX);
      const [own, other] = [`${clientPort} ${fromClient}`, `${clientPort} ${!fromClient}`];
      const packet = packetOf({ clientPort, fromClient, sequence: 1 + (sent.get(own) ?? 0), acknowledged: 1 + (sent.get(other) ?? 0), payload });
      sent.set(own, (sent.get(own) ?? 0) + payload.length);
      const record = Buffer.alloc(16);
      record.writeUInt32LE(count / 1000, 0);
      record.writeUInt32LE((count % 1000) * 1000, 4);
      record.writeUInt32LE(packet.length, 8);
      record.writeUInt32LE(packet.length, 12);
      parts.push(record, packet);
      count += 1;
    }
  }
  return Buffer.concat(parts);
}

interface Packet {
  readonly clientPort: number;
  readonly fromClient: boolean;
  readonly sequence: number;
  readonly acknowledged: number;
  readonly payload: Buffer;
}

/** An IPv4 header and a TCP header, 20 bytes each, without checksums: who reads captures does not ask for them. */
function packetOf({ clientPort, fromClient, sequence, acknowledged, payload }: Packet): Buffer {
  const headers = Buffer.alloc(40);
  headers.writeUInt8(0x45, 0);
  headers.writeUInt16BE(40 + payload.length, 2);
  headers.writeUInt8(64, 8);
  headers.writeUInt8(6, 9);
  headers.set(fromClient ? [10, 0, 0, 2, 10, 0, 0, 1] : [10, 0, 0, 1, 10, 0, 0, 2], 12);
  headers.writeUInt16BE(fromClient ? clientPort : SERVER_PORT, 20);
  headers.writeUInt16BE(fromClient ? SERVER_PORT : clientPort, 22);
  headers.writeUInt32BE(sequence, 24);
  headers.writeUInt32BE(acknowledged, 28);
  headers.writeUInt8(0x50, 32);
  headers.writeUInt8(0x18, 33);
  headers.writeUInt16BE(0xffff, 34);
  return Buffer.concat([headers, payload]);
}
