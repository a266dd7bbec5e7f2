import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { parseCredentials } from '../../src/store/s3-credentials.ts';

const FILE = `
; of two programs
[default]
aws_access_key_id = AKIA
  aws_secret_access_key=se/cr=et+

# another one
[backup]
AWS_ACCESS_KEY_ID = B
aws_secret_access_key = S
aws_session_token = T
region = somewhere
[empty]
`;

describe('a credentials file', () => {
  test('has a key for each section', () => {
    expect(parseCredentials(FILE, 'f', 'default')).toEqual({ accessKeyId: 'AKIA', secretAccessKey: 'se/cr=et+' });
    expect(parseCredentials(FILE.replaceAll('\n', '\r\n'), 'f', 'backup')).toEqual({ accessKeyId: 'B', secretAccessKey: 'S', sessionToken: 'T' });
  });

  test.each([
    ['', 'default', 'f has no section [default]'],
    [FILE, 'other', 'f has no section [other]; it has: default, backup, empty'],
    [FILE, 'empty', 'f, section [empty]: aws_access_key_id is missing'],
    ['[default]\naws_access_key_id = A\naws_secret_access_key =', 'default', 'f, section [default]: aws_secret_access_key is missing'],
    ['[default]\nAKIA:secret', 'default', 'f, line 2: neither a [section] nor a "name = value"'],
  ])('that is wrong says where, and never a secret: %j', (text, profile, message) => {
    const parse = (): unknown => parseCredentials(text, 'f', profile);
    expect(parse).toThrow(VolumeError);
    expect(parse).toThrow(message);
    expect(parse).not.toThrow(/secret$|AKIA/u);
  });
});
