/** The NBD codec: headers of requests in, simple replies out. */
import { encodeSimpleReply, isRequest, REQUEST_BYTES, REQUEST_COOKIE_AT, requestCommand, requestFlags, requestLength, requestOffset, SIMPLE_REPLY_BYTES } from '../../src/protocol/transmission.ts';
import { NBD_REQUEST_MAGIC } from '../../src/protocol/constants.ts';
import { writeU32, writeU64 } from '../../src/protocol/wire.ts';
import type { MicroSuite } from './suite.ts';

const REQUESTS = 1000;

export function codecSuite(): MicroSuite {
  const requests = new Uint8Array(REQUESTS * REQUEST_BYTES);
  for (let index = 0; index < REQUESTS; index += 1) {
    const at = index * REQUEST_BYTES;
    writeU32(requests, at, NBD_REQUEST_MAGIC);
    writeU32(requests, at + REQUEST_COOKIE_AT, index);
    writeU64(requests, at + 16, index * 4096);
    writeU32(requests, at + 24, 4096);
  }
  const replies = new Uint8Array(REQUESTS * SIMPLE_REPLY_BYTES);
  let sum = 0;
  return {
    name: 'codec',
    tasks: [
      {
        name: 'decode a request header',
        operations: REQUESTS,
        bytes: 0,
        run: () => {
          for (let at = 0; at < requests.length; at += REQUEST_BYTES) {
            if (!isRequest(requests, at)) throw new Error('a request is not recognized');
            sum += requestFlags(requests, at) + requestCommand(requests, at) + requestOffset(requests, at) + requestLength(requests, at);
          }
          if (!(sum > 0)) throw new Error('nothing was decoded');
        },
      },
      {
        name: 'encode a simple reply',
        operations: REQUESTS,
        bytes: 0,
        run: () => {
          for (let index = 0; index < REQUESTS; index += 1) {
            encodeSimpleReply(replies, index * SIMPLE_REPLY_BYTES, 0, requests, index * REQUEST_BYTES + REQUEST_COOKIE_AT);
          }
        },
      },
    ],
  };
}
