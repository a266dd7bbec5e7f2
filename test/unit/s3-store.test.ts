import { createRequire } from 'node:module';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { S3Settings } from '../../src/base/settings-types.ts';
import { openS3Store } from '../../src/store/s3-store.ts';
import { CredentialsFolder, nodeEnv, s3Settings } from '../support/s3-settings.ts';

const loaded = (): number => Object.keys(createRequire(import.meta.url).cache).filter((path) => path.includes('@aws-sdk')).length;

describe('opening a bucket', () => {
  let credentials: CredentialsFolder;
  let credentialsFile: string;
  beforeAll(async () => {
    credentials = await CredentialsFolder.create();
    credentialsFile = await credentials.write('key', 'a', 'b');
  });
  afterAll(() => credentials?.dispose());

  const open = (settings: Partial<S3Settings>): ReturnType<typeof openS3Store> =>
    openS3Store(nodeEnv(), s3Settings({ endpoint: 'http://127.0.0.1:9', bucket: 'b', credentialsFile, ...settings }));

  test.each([
    [{ endpoint: 'store.example:9000' }, /is no address; expected http/u],
    [{ endpoint: 'ftp://store' }, /is no address/u],
    [{ endpoint: 'https://store/path' }, /without a path/u],
    [{ endpoint: 'https://user@store' }, /is no address/u],
    [{ bucket: '' }, /cannot be the name of a bucket/u],
    [{ bucket: 'a/b' }, /cannot be the name of a bucket/u],
    [{ region: '' }, /a region is needed/u],
    [{ prefix: '/a' }, /the prefix "\/a" must be/u],
    [{ prefix: 'a//b' }, /must be/u],
    [{ prefix: 'Host' }, /must be/u],
    [{ caFile: 'nothing-here.pem' }, /CA file nothing-here\.pem cannot be read: .*ENOENT/u],
    [{ credentialsFile: 'nothing-here' }, /credentials file nothing-here cannot be read: .*ENOENT/u],
    [{ profile: 'other' }, /no section \[other\]; it has: default/u],
  ])('refuses %o', async (settings, words) => {
    const opening = open({ bucket: 'bucket', ...settings });
    await expect(opening).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(opening).rejects.toThrow(words);
  });

  test('loads the SDK, and nothing before it does', async () => {
    expect(loaded()).toBe(0);
    const store = await open({ bucket: 'bucket', prefix: 'hosts/one/' });
    expect(loaded()).toBeGreaterThan(0);
    expect(store.place).toEqual({ endpoint: 'http://127.0.0.1:9', bucket: 'bucket', prefix: 'hosts/one/' });
    store.close();
  });

  test('takes endpoints as they are written, and Amazon\'s without one', async () => {
    for (const endpoint of ['https://store.example', 'http://[::1]:9000/', 'https://127.0.0.1:9000']) (await open({ bucket: 'bucket', endpoint })).close();
    const amazon = await open({ bucket: 'bucket', endpoint: null, region: 'eu-central-1' });
    expect(amazon.place.endpoint).toBe('Amazon S3 (eu-central-1)');
    amazon.close();
  });
});
