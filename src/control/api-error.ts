/** Errors of the control API: an HTTP status, a code that never changes, a message for people. */
import { VolumeError, type ErrorCode, type ErrorContext } from '../base/errors.ts';

/** Codes of what is wrong with a request before the engine is asked. The engine's own codes (`base/errors.ts`) stand beside them. */
export type ApiErrorCode =
  | 'bad-request' // no HTTP request that can be understood
  | 'no-such-route' // the path is none of the API's
  | 'wrong-method' // the path is, but not with this method
  | 'bad-json' // the body is no JSON
  | 'too-long' // the body, or the header, is longer than the limit
  | 'no-token' // over TCP, without a token
  | 'wrong-token' // with another one
  | 'too-slow'; // the request did not arrive in time

export class ApiError extends Error {
  readonly status: number;
  readonly code: ApiErrorCode;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: ApiErrorCode, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

const STATUS: Readonly<Record<ErrorCode, number>> = {
  'invalid-argument': 400,
  'out-of-range': 400,
  'not-found': 404,
  'already-exists': 409,
  'in-use': 409,
  'read-only': 409,
  'no-space': 507,
  'io-error': 500,
  corrupt: 500,
  failed: 500,
  closed: 503,
  limit: 503,
  denied: 502, // by a store behind us, not by us
  unavailable: 503,
  fenced: 409,
  unsupported: 501,
};

export interface ErrorBody {
  readonly error: { readonly code: ErrorCode | ApiErrorCode; readonly message: string; readonly context: ErrorContext };
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

/** What a client is told of an expected error; throws anything else on: it is a mistake of our own. */
export function answerOf(error: unknown): ErrorAnswer {
  if (error instanceof ApiError) {
    return { status: error.status, headers: error.headers, body: { error: { code: error.code, message: error.message, context: {} } } };
  }
  if (error instanceof VolumeError) {
    return { status: STATUS[error.code], headers: {}, body: { error: { code: error.code, message: error.message, context: error.context } } };
  }
  throw error;
}

/** Whether a word is one of the engine's codes. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(STATUS, code);
}
