import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as constants from '../../src/protocol/constants.ts';
import {
  clientFlags,
  decodeInfoRequest,
  decodeText,
  encodeAck,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoDescription,
  encodeInfoExport,
  encodeInfoName,
  encodeOptionError,
  encodeServer,
  isOption,
  optionCode,
  optionDataBytes,
} from '../../src/protocol/negotiation.ts';
import {
  encodeSimpleReply,
  isRequest,
  REQUEST_BYTES,
  REQUEST_COOKIE_AT,
  requestCommand,
  requestFlags,
  requestLength,
  requestOffset,
  SIMPLE_REPLY_BYTES,
} from '../../src/protocol/transmission.ts';
import { copyCookie, readU16, readU32, readU64, writeU16, writeU32, writeU64 } from '../../src/protocol/wire.ts';
import { decodeExportInfos, infoRequestBytes, optionBytes, requestBytes, takeOptionReply } from '../support/nbd-bytes.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
/** Hexadecimal digits, grouped as a reader likes them. */
const digits = (text: string): string => text.replaceAll(' ', '');

function numbered(prefix: string, names: string): void {
  for (const entry of names.split(' ')) {
    const [value, name] = entry.split(':');
    expect(Reflect.get(constants, `${prefix}${name}`), `${prefix}${name}`).toBe(Number(value));
  }
}

describe('the constants', () => {
  test('are those of the document', () => {
    numbered('NBD_OPT_', '1:EXPORT_NAME 2:ABORT 3:LIST 5:STARTTLS 6:INFO 7:GO 8:STRUCTURED_REPLY 9:LIST_META_CONTEXT 10:SET_META_CONTEXT 11:EXTENDED_HEADERS');
    numbered('NBD_REP_', '1:ACK 2:SERVER 3:INFO 4:META_CONTEXT');
    numbered('NBD_REP_ERR_', '2147483649:UNSUP 2147483650:POLICY 2147483651:INVALID 2147483652:PLATFORM 2147483653:TLS_REQD 2147483654:UNKNOWN');
    numbered('NBD_REP_ERR_', '2147483655:SHUTDOWN 2147483656:BLOCK_SIZE_REQD 2147483657:TOO_BIG 2147483658:EXT_HEADER_REQD');
    numbered('NBD_INFO_', '0:EXPORT 1:NAME 2:DESCRIPTION 3:BLOCK_SIZE');
    numbered('NBD_CMD_', '0:READ 1:WRITE 2:DISC 3:FLUSH 4:TRIM 5:CACHE 6:WRITE_ZEROES 7:BLOCK_STATUS 8:RESIZE');
    numbered('NBD_CMD_FLAG_', '1:FUA 2:NO_HOLE 4:DF 8:REQ_ONE 16:FAST_ZERO 32:PAYLOAD_LEN');
    numbered('NBD_FLAG_', '1:HAS_FLAGS 2:READ_ONLY 4:SEND_FLUSH 8:SEND_FUA 16:ROTATIONAL 32:SEND_TRIM 64:SEND_WRITE_ZEROES 128:SEND_DF 256:CAN_MULTI_CONN');
    numbered('NBD_FLAG_', '512:SEND_RESIZE 1024:SEND_CACHE 2048:SEND_FAST_ZERO 4096:BLOCK_STATUS_PAYLOAD 1:FIXED_NEWSTYLE 2:NO_ZEROES 1:C_FIXED_NEWSTYLE 2:C_NO_ZEROES');
    numbered('NBD_', '1:EPERM 5:EIO 12:ENOMEM 22:EINVAL 28:ENOSPC 75:EOVERFLOW 95:ENOTSUP 108:ESHUTDOWN');
    numbered('NBD_', '0x25609513:REQUEST_MAGIC 0x67446698:SIMPLE_REPLY_MAGIC 0x668e33ef:STRUCTURED_REPLY_MAGIC 10809:DEFAULT_PORT');
    numbered('NBD_', '0x21e41c71:EXTENDED_REQUEST_MAGIC 0x6e8a278c:EXTENDED_REPLY_MAGIC');
    numbered('NBD_REPLY_TYPE_', '0:NONE 1:OFFSET_DATA 2:OFFSET_HOLE 5:BLOCK_STATUS 6:BLOCK_STATUS_EXT 0x8001:ERROR 0x8002:ERROR_OFFSET');
  });
});

describe('integers of the wire', () => {
  test('of 16 and 32 bits survive a round trip at any place', () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.integer({ min: 0, max: 0xffffffff }), fc.nat(9), (small, large, at) => {
        const bytes = new Uint8Array(16);
        writeU16(bytes, at, small);
        expect(readU16(bytes, at)).toBe(small);
        writeU32(bytes, at, large);
        expect(readU32(bytes, at)).toBe(large);
        expect(new DataView(bytes.buffer).getUint32(at)).toBe(large);
      }),
    );
  });

  test('of 64 bits are exact below 2^53 and Infinity from there on', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64BE(value);
        expect(readU64(bytes, 0)).toBe(value < 2n ** 53n ? Number(value) : Number.POSITIVE_INFINITY);
      }),
    );
    const edge = Buffer.from('001fffffffffffff0020000000000000', 'hex');
    expect(readU64(edge, 0)).toBe(Number.MAX_SAFE_INTEGER);
    expect(readU64(edge, 8)).toBe(Number.POSITIVE_INFINITY);
  });

  test('of 64 bits are written exactly', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const bytes = Buffer.alloc(8);
        writeU64(bytes, 0, value);
        expect(bytes.readBigUInt64BE(0)).toBe(BigInt(value));
      }),
    );
  });

  test('cookies are copied bit for bit', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (cookie) => {
        const target = new Uint8Array(12);
        copyCookie(cookie, 0, target, 2);
        expect(hex(target)).toBe(`0000${hex(cookie)}0000`);
      }),
    );
  });
});

describe('a request', () => {
  test('is read field by field wherever it lies', () => {
    const fields = fc.record({
      command: fc.nat(0xffff),
      flags: fc.nat(0xffff),
      cookie: fc.uint8Array({ minLength: 8, maxLength: 8 }),
      offset: fc.maxSafeNat(),
      length: fc.integer({ min: 0, max: 0xffffffff }),
    });
    fc.assert(
      fc.property(fields, fc.nat(40), (request, at) => {
        const bytes = Buffer.concat([Buffer.alloc(at, 0xaa), requestBytes(request), Buffer.alloc(5, 0xbb)]);
        expect(isRequest(bytes, at)).toBe(true);
        expect(requestFlags(bytes, at)).toBe(request.flags);
        expect(requestCommand(bytes, at)).toBe(request.command);
        expect(requestOffset(bytes, at)).toBe(request.offset);
        expect(requestLength(bytes, at)).toBe(request.length);
        expect(hex(bytes.subarray(at + REQUEST_COOKIE_AT, at + REQUEST_COOKIE_AT + 8))).toBe(hex(request.cookie));
        expect(bytes.length).toBe(at + REQUEST_BYTES + 5);
      }),
    );
  });

  test('of any other magic is none', () => {
    for (const magic of [0x12560953, 0x96744668, 0x25609514, 0x21e41c71, 0x13956025, 0]) {
      expect(isRequest(requestBytes({ command: 0, cookie: Buffer.alloc(8), magic }), 0)).toBe(false);
    }
  });

  test('is answered by 16 bytes and nothing around them', () => {
    const target = Buffer.alloc(20, 0x77);
    encodeSimpleReply(target, 2, 28, Buffer.from('ff00fedcba9876543210ee', 'hex'), 2);
    expect(SIMPLE_REPLY_BYTES).toBe(16);
    expect(hex(target)).toBe(digits('7777 67446698 0000001c fedcba9876543210 7777'));
  });
});

describe('the handshake', () => {
  test('begins with 18 bytes', () => {
    expect(hex(encodeGreeting())).toBe(digits('4e42444d41474943 49484156454f5054 0003'));
  });

  test('reads client flags with all bits', () => {
    expect(clientFlags(Buffer.from('0080000003', 'hex'), 1)).toBe(0x80000003);
  });

  test('reads the header of an option', () => {
    const bytes = Buffer.concat([Buffer.alloc(3), optionBytes(0xfffffffe, Buffer.alloc(0), 0xffffffff)]);
    expect(isOption(bytes, 3)).toBe(true);
    expect(optionCode(bytes, 3)).toBe(0xfffffffe);
    expect(optionDataBytes(bytes, 3)).toBe(0xffffffff);
    for (const index of [3, 6, 7, 10]) {
      const broken = Buffer.from(bytes);
      broken[index] ^= 1;
      expect(isOption(broken, 3)).toBe(false);
    }
  });

  test('acknowledges without data', () => {
    expect(hex(encodeAck(7))).toBe(digits('0003e889045565a9 00000007 00000001 00000000'));
  });

  test('says what is wrong', () => {
    expect(hex(encodeOptionError(3, constants.NBD_REP_ERR_INVALID, 'no'))).toBe(digits('0003e889045565a9 00000003 80000003 00000002 6e6f'));
  });

  test('cuts a long text between two characters', () => {
    for (const text of ['é'.repeat(3000), `x${'é'.repeat(3000)}`, '𝄞'.repeat(2000), `xyz${'𝄞'.repeat(2000)}`, 'a'.repeat(5000)]) {
      const taken = takeOptionReply(Buffer.from(encodeOptionError(3, constants.NBD_REP_ERR_INVALID, text)));
      const data = taken?.reply.data ?? Buffer.alloc(0);
      expect(data.length).toBeGreaterThan(4092);
      expect(data.length).toBeLessThanOrEqual(4096);
      expect(text.startsWith(data.toString())).toBe(true);
    }
  });

  test('lists a volume with its description', () => {
    const body = '00000002' + Buffer.from('vo').toString('hex') + Buffer.from('big').toString('hex');
    expect(hex(encodeServer(3, 'vo', 'big')).slice(40)).toBe(body);
  });

  test('tells the four infos', () => {
    const infos = [
      encodeInfoExport(7, 2 ** 53 - 1, 0x0d6d),
      encodeInfoName(7, 'grün'),
      encodeInfoDescription(7, 'for tests'),
      encodeInfoBlockSize(7, { minimumBytes: 1, preferredBytes: 4096, maximumBytes: 0xffffffff }),
    ].map((bytes) => takeOptionReply(Buffer.from(bytes))?.reply);
    expect(decodeExportInfos(infos.filter((reply) => reply !== undefined))).toEqual({
      sizeBytes: 2n ** 53n - 1n,
      transmissionFlags: 0x0d6d,
      name: 'grün',
      description: 'for tests',
      blockSizes: { minimum: 1, preferred: 4096, maximum: 0xffffffff },
    });
  });

  test('answers EXPORT_NAME with and without padding', () => {
    expect(hex(encodeExportNameReply(4096, 0x0103, true))).toBe(digits('0000000000001000 0103'));
    expect(hex(encodeExportNameReply(4096, 0x0103, false))).toBe(`00000000000010000103${'00'.repeat(124)}`);
  });
});

describe('an info request', () => {
  test('survives a round trip', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.array(fc.nat(0xffff), { maxLength: 20 }), (name, infos) => {
        fc.pre(!name.includes('\0'));
        expect(decodeInfoRequest(infoRequestBytes(name, infos))).toEqual({ name, infos });
      }),
    );
  });

  test('is refused when it is shorter or longer than its lengths say', () => {
    const whole = infoRequestBytes('disk', [1, 3]);
    for (let length = 0; length < whole.length; length += 1) {
      expect(decodeInfoRequest(whole.subarray(0, length)), `${length} bytes`).toHaveProperty('invalid');
    }
    expect(decodeInfoRequest(Buffer.concat([whole, Buffer.alloc(1)]))).toHaveProperty('invalid');
    const hugeName = Buffer.from(whole);
    hugeName.writeUInt32BE(0xffffffff);
    expect(decodeInfoRequest(hugeName)).toEqual({ invalid: 'name of 4294967295 bytes does not fit in option data of 14' });
  });

  test('is refused when its name is none', () => {
    expect(decodeInfoRequest(infoRequestBytes('a\0b'))).toEqual({ invalid: 'export name contains a NUL byte' });
    expect(decodeInfoRequest(infoRequestBytes(Buffer.from([0xc3, 0x28])))).toEqual({ invalid: 'export name is not UTF-8' });
    expect(decodeInfoRequest(infoRequestBytes('x'.repeat(4097)))).toEqual({ invalid: 'export name of 4097 bytes is longer than 4096' });
    expect(decodeInfoRequest(infoRequestBytes('x'.repeat(4096)))).toEqual({ name: 'x'.repeat(4096), infos: [] });
  });

  test('never makes anything of random bytes but a request or a reason', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (data) => {
        const request = decodeInfoRequest(data);
        return 'invalid' in request ? request.invalid !== '' : hex(infoRequestBytes(request.name, request.infos)) === hex(data);
      }),
    );
  });
});

test('a name may begin with a byte order mark', () => {
  expect(decodeText(Buffer.from('\uFEFFdisk'), 'name')).toEqual({ text: '\uFEFFdisk' });
});
