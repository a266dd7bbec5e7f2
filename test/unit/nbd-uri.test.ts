import { expect, test } from 'vitest';
import { formatNbdUri, parseNbdUri } from '../../src/protocol/uri.ts';

test.each([
  ['nbd://host/demo', { address: { host: 'host', port: 10809 }, exportName: 'demo', tls: false }],
  ['nbd://127.0.0.1:9000/a/b%20c', { address: { host: '127.0.0.1', port: 9000 }, exportName: 'a/b c', tls: false }],
  ['nbd://[::1]:9000/demo', { address: { host: '::1', port: 9000 }, exportName: 'demo', tls: false }],
  ['nbd://user@host', { address: { host: 'host', port: 10809 }, exportName: '', tls: false }],
  ['nbds://host/x?tls-certificates=pki', { address: { host: 'host', port: 10809 }, exportName: 'x', tls: true }],
  ['nbd+unix:///demo?socket=/run/b%20c.sock', { address: { path: '/run/b c.sock' }, exportName: 'demo', tls: false }],
  ['nbd+unix:///?socket=%00name', { address: { path: '\0name' }, exportName: '', tls: false }],
])('%s is understood', (text, target) => {
  expect(parseNbdUri(text)).toEqual(target);
});

test.each([
  ['demo', 'is no NBD URI'],
  ['http://host/demo', 'is no NBD URI'],
  ['nbd://host:70000/demo', 'has the port 70000'],
  ['nbd://host:0/demo', 'has the port 0'],
  ['nbd:///demo', 'names no host'],
  ['nbd://host/%zz', 'has a % that'],
  ['nbd+unix:///demo', 'names no socket'],
  ['nbd+unix:///demo?socket=', 'names no socket'],
  ['nbd+unix://host/demo?socket=/s', 'has a host, and a socket'],
  ['nbd://host/demo?socket=/s', 'has a socket and is not nbd+unix'],
])('%s is refused, and what is right is said', (text, why) => {
  expect(() => parseNbdUri(text)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  expect(() => parseNbdUri(text)).toThrow(`"${text}" ${why}`);
  expect(() => parseNbdUri(text)).toThrow(/write nbd:\/\/HOST:PORT\/NAME/);
});

test.each(['nbd://host:10809/demo', 'nbd://[::1]:9/a/b%20c', 'nbd+unix:///demo?socket=/run/b%20c.sock', 'nbd://h:1/%C3%BC%3F'])('%s is how it is spelled', (text) => {
  expect(formatNbdUri(parseNbdUri(text))).toBe(text);
});
