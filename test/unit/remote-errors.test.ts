import { describe, expect, test } from 'vitest';
import { AssertionFailure } from '../../src/base/assert.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { BY_WORD, RULES, RemoteError, describeRequest, ruleOfStatus, toRemoteError } from '../../src/store/remote-errors.ts';

const place = { endpoint: 'https://store.example:9000', bucket: 'volumes', prefix: 'hosts/one/' };
const request = { doing: 'writing', place, key: 'chunks/000001' };

/** An error as the SDK throws it for an answer of a store. */
function answered(status: number, code: string | null, text = 'told by the store'): Error {
  const error = Object.assign(new Error(text), { $metadata: { httpStatusCode: status }, $response: { body: 'large' } });
  if (code !== null) Object.assign(error, { Code: code, name: code });
  return error;
}

function broken(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code });
}

describe('the table of failures', () => {
  test.each([
    ['a wrong access key', answered(403, 'InvalidAccessKeyId'), 'denied', 'denied', /access key/u],
    ['a wrong secret', answered(403, 'SignatureDoesNotMatch'), 'denied', 'denied', /secret key/u],
    ['a bucket of somebody else', answered(403, 'AccessDenied'), 'denied', 'denied', /bucket/u],
    ['expired credentials', answered(400, 'ExpiredToken'), 'denied', 'denied', /renew/u],
    ['a clock that is wrong', answered(403, 'RequestTimeTooSkewed'), 'denied', 'denied', /clock/u],
    ['a bucket that is not there', answered(404, 'NoSuchBucket'), 'permanent', 'not-found', /no such bucket/u],
    ['an object that is not there', answered(404, 'NoSuchKey'), 'not-found', 'not-found', /no such object/u],
    ['a bucket elsewhere', answered(301, 'PermanentRedirect'), 'permanent', 'invalid-argument', /region/u],
    ['a wrong region', answered(400, 'AuthorizationHeaderMalformed'), 'permanent', 'invalid-argument', /region/u],
    ['a full bucket', answered(403, 'QuotaExceeded'), 'full', 'no-space', /quota/u],
    ['a lost condition', answered(412, 'PreconditionFailed'), 'lost-condition', 'already-exists', /there already/u],
    ['a conflict', answered(409, 'ConditionalRequestConflict'), 'lost-condition', 'already-exists', /there already/u],
    ['a request that is not implemented', answered(501, 'NotImplemented'), 'permanent', 'unsupported', /does not do this/u],
    ['a store that asks for less', answered(503, 'SlowDown'), 'throttled', 'unavailable', /fewer requests/u],
    ['a store that fails', answered(500, 'InternalError'), 'transient', 'unavailable', /tried again/u],
    ['a status that nobody knows', answered(599, null), 'transient', 'unavailable', /tried again/u],
    ['a refusal that nobody knows', answered(418, 'Teapot'), 'permanent', 'io-error', /refuses/u],
    ['a 404 that says nothing, as web servers answer', answered(404, 'NotFound'), 'permanent', 'invalid-argument', /not answer as an S3 store/u],
    ['nobody there', broken('ECONNREFUSED'), 'transient', 'unavailable', /nobody listens/u],
    ['a name that is none', broken('ENOTFOUND'), 'transient', 'unavailable', /resolved/u],
    ['a broken connection', broken('ECONNRESET'), 'transient', 'unavailable', /connection broke/u],
    ['an unknown authority', broken('UNABLE_TO_VERIFY_LEAF_SIGNATURE'), 'denied', 'denied', /CA file/u],
    ['an authority of its own', broken('SELF_SIGNED_CERT_IN_CHAIN'), 'denied', 'denied', /CA file/u],
    ['a certificate of another name', broken('ERR_TLS_CERT_ALTNAME_INVALID'), 'denied', 'denied', /another name/u],
    ['an expired certificate', broken('CERT_HAS_EXPIRED'), 'denied', 'denied', /expired/u],
    ['no credentials', Object.assign(new Error('Could not load'), { name: 'CredentialsProviderError' }), 'denied', 'denied', /AWS_ACCESS_KEY_ID/u],
    ['something that nobody knows', new Error('odd'), 'transient', 'unavailable', /connection/u],
    ['what is no error', 'a text', 'transient', 'unavailable', /a text/u],
  ])('has %s', (_, cause, failure, code, advice) => {
    const error = toRemoteError(cause, request);
    expect({ failure: error.failure, code: error.code }).toEqual({ failure, code });
    expect(error.message).toMatch(advice);
    for (const named of ['writing', 'volumes/hosts/one/chunks/000001', 'https://store.example:9000']) expect(error.message).toContain(named);
    expect(error.context).toMatchObject({ endpoint: place.endpoint, bucket: 'volumes', key: 'hosts/one/chunks/000001', failure });
    expect(error.isRetryable).toBe(failure === 'transient' || failure === 'throttled');
  });

  test('is asked for the cause of an error, too', () => {
    const error = toRemoteError(new Error('request failed', { cause: broken('ECONNREFUSED') }), request);
    expect(error.word).toBe('ECONNREFUSED');
  });

  test('has an advice for every word', () => {
    for (const [word, { advice, code }] of BY_WORD) {
      expect(advice.length, word).toBeGreaterThan(20);
      expect(toRemoteError(answered(400, word), request).code, word).toBe(code);
    }
  });

  test.each([
    [301, 'permanent'], [304, 'lost-condition'], [400, 'permanent'], [401, 'denied'], [403, 'denied'], [404, 'permanent'], [405, 'permanent'], [408, 'transient'],
    [409, 'lost-condition'], [412, 'lost-condition'], [429, 'throttled'], [500, 'transient'], [501, 'permanent'], [502, 'transient'], [503, 'throttled'], [504, 'transient'], [507, 'full'],
  ])('knows status %i', (status, failure) => {
    expect(ruleOfStatus(status).failure).toBe(failure);
    expect(toRemoteError(answered(status, null), request).failure).toBe(failure);
  });
});

describe('an error', () => {
  test('does not hold the answer that it was made of, nor more of its text than a line', () => {
    const error = toRemoteError(answered(500, 'InternalError', 'x'.repeat(10_000)), request);
    expect(error.cause).toBeUndefined();
    expect(error.message.length).toBeLessThan(600);
  });

  test('that is one already passes unchanged', () => {
    const error = new RemoteError(RULES.damaged, 'text', { word: 'short', place });
    expect(toRemoteError(error, request)).toBe(error);
  });

  test('of our own code behind the client keeps its text', () => {
    const error = toRemoteError(new VolumeError('invalid-argument', 'keys.ini has no section [default]'), request);
    expect(error).toMatchObject({ failure: 'denied', code: 'denied' });
    expect(error.message).toContain('keys.ini has no section [default]');
  });

  test('that is a mistake of ours is thrown on', () => {
    expect(() => toRemoteError(new AssertionFailure('broken'), request)).toThrow(AssertionFailure);
  });

  test('names a bucket where there is no key', () => {
    expect(describeRequest({ doing: 'listing', place })).toBe('listing s3://volumes/hosts/one/ at https://store.example:9000');
  });
});
