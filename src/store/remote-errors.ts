/**
 * What goes wrong with a remote store, in one table: which class of failure it is, the code that it has for the rest of basalt, and what
 * can be done about it. Errors are told by the store's own word (S3's `Code`), the word of the system or of OpenSSL, or the status, in this order.
 */
import { VolumeError, systemCode, type ErrorCode } from '../base/errors.ts';
import { AssertionFailure } from '../base/assert.ts';
import type { RemotePlace } from './remote-store.ts';

/**
 * What a caller can do: `transient` and `throttled` are tried again, by the store until its deadline and by its caller later; `denied` and `full` when somebody
 * changed something (a key, a permission, a quota, the clock); `permanent` not at all. `lost-condition`: somebody else has the key.
 */
export type RemoteFailure = 'transient' | 'throttled' | 'denied' | 'full' | 'not-found' | 'lost-condition' | 'damaged' | 'permanent' | 'cancelled';

export class RemoteError extends VolumeError {
  readonly failure: RemoteFailure;
  /** The store's own word, the system's, or the status: what the table went by. */
  readonly word: string;

  constructor(rule: Pick<FailureRule, 'failure' | 'code'>, message: string, details: { readonly word: string; readonly place: RemotePlace; readonly key?: string; readonly cause?: unknown }) {
    const { word, place, key, cause } = details;
    super(rule.code, message, {
      ...(cause === undefined ? {} : { cause }),
      context: { endpoint: place.endpoint, bucket: place.bucket, key: key === undefined ? null : `${place.prefix}${key}`, failure: rule.failure, word },
    });
    this.failure = rule.failure;
    this.word = word;
  }

  get isRetryable(): boolean {
    return this.failure === 'transient' || this.failure === 'throttled';
  }
}

export interface FailureRule {
  readonly failure: RemoteFailure;
  readonly code: ErrorCode;
  /** What it means, and what to do. */
  readonly advice: string;
}

const rule = (failure: RemoteFailure, code: ErrorCode, advice: string): FailureRule => ({ failure, code, advice });

const TRANSIENT = rule('transient', 'unavailable', 'the store failed; it is tried again');
const THROTTLED = rule('throttled', 'unavailable', 'the store asks for fewer requests; it is tried again, more slowly');
const NO_ANSWER = rule('transient', 'unavailable', 'the connection broke; it is tried again. If it stays so, check the network and whether the store runs');
const NO_NAME = rule('transient', 'unavailable', 'the name of the endpoint cannot be resolved; check the endpoint, and the network');
const REFUSED = rule('transient', 'unavailable', 'nobody listens there; check the endpoint and its port, and whether the store runs');
const WRONG_REGION = rule('permanent', 'invalid-argument', 'the bucket is in another region, or at another endpoint; check region and endpoint');
const SKEW = rule('denied', 'denied', "this machine's clock and the store's differ too much; set the clock (NTP)");
const EXPIRED = rule('denied', 'denied', 'the credentials have expired; renew them, they are read again at the next try');
const WRONG_KEY = rule('denied', 'denied', 'the store does not know this access key; check the credentials, and that they are for this endpoint');
const WRONG_SECRET = rule('denied', 'denied', 'the secret key does not belong to the access key; check the credentials (a region that is wrong can cause it, too)');
const FORBIDDEN = rule('denied', 'denied', 'these credentials may not do this; check the bucket (it may be somebody else\'s), its policy, and the permissions of the key');
const NO_BUCKET = rule('permanent', 'not-found', 'there is no such bucket at this endpoint; check its name and the endpoint, or create it');
const NO_STORE = rule('permanent', 'invalid-argument', 'the endpoint does not answer as an S3 store does; check the endpoint (and whether it wants the path style)');
const NO_OBJECT = rule('not-found', 'not-found', 'there is no such object');
const LOST = rule('lost-condition', 'already-exists', 'the object is there already');
const FULL = rule('full', 'no-space', 'the bucket, or the quota of its user, is full; free some, or raise the quota');
const UNKNOWN_WAY = rule('permanent', 'unsupported', 'the store does not do this');
const BAD_REQUEST = rule('permanent', 'io-error', 'the store refuses the request; this may be a store that basalt does not know');
const GARBLED = rule('transient', 'corrupt', 'what arrived is not what was sent; it is tried again');
const UNTRUSTED = rule('denied', 'denied', 'the certificate of the endpoint was not issued by an authority that is trusted here; give its CA file');
const WRONG_CERTIFICATE = rule('denied', 'denied', 'the certificate of the endpoint has expired, or is for another name; check the endpoint, its certificate and the clock');
const NO_TLS = rule('permanent', 'invalid-argument', 'the endpoint does not speak TLS as we do; check http or https, and the port');
const NO_CREDENTIALS = rule('denied', 'denied', 'no credentials were found; give a file of them, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY');

/** The other classes, for those who find out by themselves. */
export const RULES = {
  timedOut: rule('transient', 'unavailable', 'no answer in time; check the network, and whether the store is overloaded'),
  cancelled: rule('cancelled', 'closed', 'the call was ended'),
  damaged: rule('damaged', 'corrupt', 'the object was cut or changed behind our back'),
  wrongAnswer: rule('transient', 'corrupt', 'the answer is not what was asked for; it is tried again'),
  notAStore: NO_STORE,
  notFound: NO_OBJECT,
  lostCondition: LOST,
  transient: TRANSIENT,
  throttled: THROTTLED,
  unsupported: UNKNOWN_WAY,
  noCredentials: NO_CREDENTIALS,
} as const;

/** By the store's word, or by that of the system, Node or OpenSSL. */
export const BY_WORD: ReadonlyMap<string, FailureRule> = new Map([
  // Who we are.
  ['InvalidAccessKeyId', WRONG_KEY],
  ['InvalidAccessKey', WRONG_KEY],
  ['SignatureDoesNotMatch', WRONG_SECRET],
  ['AccessDenied', FORBIDDEN],
  ['AllAccessDisabled', FORBIDDEN],
  ['AccountProblem', FORBIDDEN],
  ['UserSuspended', FORBIDDEN],
  ['InvalidToken', EXPIRED],
  ['ExpiredToken', EXPIRED],
  ['ExpiredTokenException', EXPIRED],
  ['TokenRefreshRequired', EXPIRED],
  ['RequestTimeTooSkewed', SKEW],
  ['RequestExpired', SKEW],
  ['CredentialsProviderError', NO_CREDENTIALS],
  // Where the bucket is.
  ['NoSuchBucket', NO_BUCKET],
  ['InvalidBucketName', NO_BUCKET],
  ['PermanentRedirect', WRONG_REGION],
  ['TemporaryRedirect', WRONG_REGION],
  ['AuthorizationHeaderMalformed', WRONG_REGION],
  ['IllegalLocationConstraintException', WRONG_REGION],
  ['InvalidRegionName', WRONG_REGION],
  ['NotFound', NO_STORE], // the SDK's own word for a 404 that says no more
  // The object.
  ['NoSuchKey', NO_OBJECT],
  ['NoSuchVersion', NO_OBJECT],
  ['PreconditionFailed', LOST],
  ['ConditionalRequestConflict', LOST],
  ['OperationAborted', LOST],
  ['QuotaExceeded', FULL],
  ['XMinioStorageFull', FULL],
  ['StorageFull', FULL],
  ['InsufficientCapacity', FULL],
  // The request.
  ['NotImplemented', UNKNOWN_WAY],
  ['MethodNotAllowed', UNKNOWN_WAY],
  ['BadDigest', GARBLED],
  ['XAmzContentSHA256Mismatch', GARBLED],
  ['XAmzContentChecksumMismatch', GARBLED],
  ['InvalidDigest', GARBLED],
  ['IncompleteBody', GARBLED],
  ['RequestTimeout', NO_ANSWER],
  // The store is busy or failing.
  ['SlowDown', THROTTLED],
  ['SlowDownRead', THROTTLED],
  ['SlowDownWrite', THROTTLED],
  ['Throttling', THROTTLED],
  ['ThrottlingException', THROTTLED],
  ['TooManyRequests', THROTTLED],
  ['RequestLimitExceeded', THROTTLED],
  ['BandwidthLimitExceeded', THROTTLED],
  ['ServiceUnavailable', THROTTLED],
  ['InternalError', TRANSIENT],
  ['InternalFailure', TRANSIENT],
  // The connection.
  ['ECONNREFUSED', REFUSED],
  ['EHOSTUNREACH', REFUSED],
  ['ENETUNREACH', REFUSED],
  ['EHOSTDOWN', REFUSED],
  ['ENOTFOUND', NO_NAME],
  ['EAI_AGAIN', NO_NAME],
  ['ECONNRESET', NO_ANSWER],
  ['ECONNABORTED', NO_ANSWER],
  ['EPIPE', NO_ANSWER],
  ['ETIMEDOUT', NO_ANSWER],
  ['TimeoutError', NO_ANSWER],
  ['ERR_STREAM_PREMATURE_CLOSE', NO_ANSWER],
  ['HPE_INVALID_CONSTANT', NO_TLS],
  ['EPROTO', NO_TLS],
  ['ERR_SSL_WRONG_VERSION_NUMBER', NO_TLS],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', NO_TLS],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', UNTRUSTED],
  ['SELF_SIGNED_CERT_IN_CHAIN', UNTRUSTED],
  ['UNABLE_TO_GET_ISSUER_CERT', UNTRUSTED],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', UNTRUSTED],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', UNTRUSTED],
  ['CERT_SIGNATURE_FAILURE', UNTRUSTED],
  ['CERT_HAS_EXPIRED', WRONG_CERTIFICATE],
  ['CERT_NOT_YET_VALID', WRONG_CERTIFICATE],
  ['ERR_TLS_CERT_ALTNAME_INVALID', WRONG_CERTIFICATE],
]);

/** By the status of an answer whose word the table does not know, or that has none. */
export function ruleOfStatus(status: number): FailureRule {
  if (status === 301 || status === 307 || status === 308) return WRONG_REGION;
  if (status === 401 || status === 403) return FORBIDDEN;
  if (status === 404) return NO_STORE; // a store says what is missing; a web server does not
  if (status === 408) return NO_ANSWER;
  // 304: an old MinIO's answer to a create of what is there.
  if (status === 409 || status === 412 || status === 304) return LOST;
  if (status === 429 || status === 503) return THROTTLED;
  if (status === 405 || status === 501) return UNKNOWN_WAY;
  if (status === 507) return FULL;
  return status >= 500 ? TRANSIENT : BAD_REQUEST;
}

/** What is known of a request that failed. */
export interface RemoteRequest {
  /** What was done, as a participle: `writing`. */
  readonly doing: string;
  readonly place: RemotePlace;
  readonly key?: string;
}

/** `writing s3://bucket/prefix/key at http://host`. */
export function describeRequest({ doing, place, key }: RemoteRequest): string {
  return `${doing} s3://${place.bucket}/${place.prefix}${key ?? ''} at ${place.endpoint}`;
}

/** An error that we found ourselves. */
export function remoteError(failureRule: FailureRule, request: RemoteRequest, word: string, what: string): RemoteError {
  return new RemoteError(failureRule, `${describeRequest(request)}: ${what}: ${failureRule.advice}`, { ...request, word });
}

/** The word and the status that an error of the SDK carries, as far as it does. */
function readError(error: unknown): { readonly words: readonly string[]; readonly status: number | null; readonly text: string } {
  const words: string[] = [];
  let status: number | null = null;
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth += 1) {
    const code = systemCode(at);
    if ('Code' in at && typeof at.Code === 'string') words.push(at.Code);
    if (code !== undefined) words.push(code);
    words.push(at.name);
    status ??= statusOf(at);
  }
  return { words, status, text: error instanceof Error ? error.message : String(error) };
}

function statusOf(error: Error): number | null {
  if (!('$metadata' in error)) return null;
  const metadata: unknown = error.$metadata;
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) return null;
  return typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : null;
}

/** Makes a RemoteError of whatever a request threw. A broken assertion is thrown on. */
export function toRemoteError(error: unknown, request: RemoteRequest): RemoteError {
  if (error instanceof AssertionFailure) throw error;
  if (error instanceof RemoteError) return error;
  // Of our own code behind the SDK: the credentials file.
  if (error instanceof VolumeError) return new RemoteError({ failure: 'denied', code: 'denied' }, `${describeRequest(request)}: ${error.message}`, { ...request, word: error.code, cause: error });
  const { words, status, text } = readError(error);
  const known = words.find((word) => BY_WORD.has(word));
  // Without an answer, and with an error that nobody knows, the connection is what failed.
  const failureRule = (known === undefined ? undefined : BY_WORD.get(known)) ?? (status === null ? NO_ANSWER : ruleOfStatus(status));
  const word = known ?? words.find((name) => name !== 'Error' && name !== 'S3ServiceException') ?? String(status ?? 'no answer');
  const label = [status === null ? '' : String(status), word].filter((part) => part !== '').join(' ');
  const told = text === '' || text === word || text === 'UnknownError' ? '' : `, "${text.slice(0, 200)}"`;
  // An answer's error holds the whole answer and its socket: all that is of use of it is in the message.
  const cause = status === null ? { cause: error } : {};
  return new RemoteError(failureRule, `${describeRequest(request)}: ${label}${told}: ${failureRule.advice}`, { ...request, ...cause, word });
}
