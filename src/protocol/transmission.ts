/**
 * Requests and replies of the transmission phase (NBD document, "Transmission phase").
 *
 * | offset | request, 28 bytes | | offset | simple reply, 16 bytes |
 * |---|---|---|---|---|
 * | 0 | u32 NBD_REQUEST_MAGIC | | 0 | u32 NBD_SIMPLE_REPLY_MAGIC |
 * | 4 | u16 command flags | | 4 | u32 error, 0 for success |
 * | 6 | u16 command | | 8 | cookie of the request |
 * | 8 | cookie, 8 bytes | | 16 | the data, after a READ that succeeded |
 * | 16 | u64 offset | | | |
 * | 24 | u32 length | | | |
 * | 28 | the data, after a WRITE | | | |
 *
 * An extended request (branch extension-ext-header) has NBD_EXTENDED_REQUEST_MAGIC, the same fields up to the offset, and then a u64 length:
 * 32 bytes. With PAYLOAD_LEN among its flags the length is that of a payload behind it.
 *
 * A header is read field by field where it lies, because an object for each of 150,000 requests a second is what the garbage
 * collector would then spend its time on. Structured replies have an encoder of their own: `structured.ts`.
 */
import { NBD_EXTENDED_REQUEST_MAGIC, NBD_REQUEST_MAGIC, NBD_SIMPLE_REPLY_MAGIC } from './constants.ts';
import { copyCookie, readU16, readU32, readU64, writeU32 } from './wire.ts';

export const REQUEST_BYTES = 28;
export const EXTENDED_REQUEST_BYTES = 32;
export const SIMPLE_REPLY_BYTES = 16;

/** Where the cookie lies in a request, and the offset behind it: its identity. */
export const REQUEST_COOKIE_AT = 8;
export const IDENTITY_BYTES = 16;

/** Whether a request starts at `at`; if not, the stream has lost its sync and cannot be used any more. */
export function isRequest(source: Uint8Array, at: number): boolean {
  return readU32(source, at) === NBD_REQUEST_MAGIC;
}

export function isExtendedRequest(source: Uint8Array, at: number): boolean {
  return readU32(source, at) === NBD_EXTENDED_REQUEST_MAGIC;
}

export function requestFlags(source: Uint8Array, at: number): number {
  return readU16(source, at + 4);
}

export function requestCommand(source: Uint8Array, at: number): number {
  return readU16(source, at + 6);
}

/** Bytes; Infinity for 2^53 and above. */
export function requestOffset(source: Uint8Array, at: number): number {
  return readU64(source, at + 16);
}

/** Bytes, up to 2^32-1. */
export function requestLength(source: Uint8Array, at: number): number {
  return readU32(source, at + 24);
}

/** Bytes; Infinity for 2^53 and above. */
export function extendedRequestLength(source: Uint8Array, at: number): number {
  return readU64(source, at + 24);
}

/** Writes the 16 bytes of a simple reply, with the cookie found in `cookieSource`. */
export function encodeSimpleReply(target: Uint8Array, at: number, error: number, cookieSource: Uint8Array, cookieAt: number): void {
  writeU32(target, at, NBD_SIMPLE_REPLY_MAGIC);
  writeU32(target, at + 4, error);
  copyCookie(cookieSource, cookieAt, target, at + 8);
}
