import { describe, expect, test } from 'vitest';
import { takeActivation } from '../../src/server/activation.ts';

describe('socket activation', () => {
  test('gives the descriptors that are for this process, and no child hears of them', () => {
    const environment = { LISTEN_PID: '77', LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:b:c', PATH: '/bin' };
    expect(takeActivation(environment, 77)).toEqual([3, 4, 5]);
    expect(environment).toEqual({ PATH: '/bin' });
  });

  test.each([{}, { LISTEN_FDS: '1' }, { LISTEN_PID: '78', LISTEN_FDS: '1' }, { LISTEN_PID: '77' }, { LISTEN_PID: '77', LISTEN_FDS: '0' }])('%j means none', (environment) => {
    expect(takeActivation({ ...environment }, 77)).toEqual([]);
  });

  test.each(['-1', 'x', '1.5', '', '99999'])('a number of sockets of "%s" is refused', (count) => {
    expect(() => takeActivation({ LISTEN_PID: '77', LISTEN_FDS: count }, 77)).toThrow(/is no number of sockets/);
  });
});
