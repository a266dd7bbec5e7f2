/** Messages of the kernel's NBD family (linux/nbd-netlink.h), and the one that asks for a family's number: bytes in, bytes out. */
import { decodeAttributes, encodeNested, encodeRequest, encodeString, encodeU32, encodeU64, GENL_ID_CTRL, listOf, type NetlinkAnswer, stringOf, u16Of, u32Of, u8Of } from './netlink.ts';

export const NBD_GENL_FAMILY_NAME = 'nbd';
export const NBD_GENL_MCAST_GROUP_NAME = 'nbd_mc_group';

// Commands.
const NBD_CMD_CONNECT = 1;
const NBD_CMD_DISCONNECT = 2;
const NBD_CMD_RECONFIGURE = 3;
const NBD_CMD_LINK_DEAD = 4;
const NBD_CMD_STATUS = 5;

// Attributes.
const NBD_ATTR_INDEX = 1;
const NBD_ATTR_SIZE_BYTES = 2;
const NBD_ATTR_BLOCK_SIZE_BYTES = 3;
const NBD_ATTR_TIMEOUT = 4;
const NBD_ATTR_SERVER_FLAGS = 5;
const NBD_ATTR_SOCKETS = 7;
const NBD_ATTR_DEAD_CONN_TIMEOUT = 8;
const NBD_ATTR_DEVICE_LIST = 9;
const NBD_ATTR_BACKEND_IDENTIFIER = 10;
const NBD_DEVICE_ITEM = 1;
const NBD_DEVICE_INDEX = 1;
const NBD_DEVICE_CONNECTED = 2;
const NBD_SOCK_ITEM = 1;
const NBD_SOCK_FD = 1;

// The controller of generic netlink.
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const CTRL_ATTR_MCAST_GROUPS = 7;
const CTRL_ATTR_MCAST_GRP_NAME = 1;
const CTRL_ATTR_MCAST_GRP_ID = 2;

/** Numbers that a kernel gives to the family when the module is loaded. */
export interface NbdFamily {
  readonly family: number;
  /** The multicast group; null if the kernel has none. */
  readonly group: number | null;
}

export interface ConnectMessage {
  /** Null: the first free one. */
  readonly index: number | null;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  /** Transmission flags, as the server sent them. */
  readonly serverFlags: number;
  /** Whole seconds after which a request is sent again, on another connection. */
  readonly timeoutSeconds: number;
  /** Whole seconds that requests wait for a connection. */
  readonly deadTimeoutSeconds: number;
  /** Descriptors of this process. The kernel takes references of its own. */
  readonly descriptors: readonly number[];
  /** What the device shall be known by. Kernels before 5.14 do not look at it. */
  readonly backend: string;
}

export interface ReconfigureMessage {
  readonly index: number;
  /** Must be that of the connect, where the kernel knows it. */
  readonly backend: string | null;
  readonly sizeBytes?: number | undefined;
  readonly descriptors?: readonly number[] | undefined;
}

export interface DeviceStatus {
  readonly index: number;
  readonly isConnected: boolean;
}

interface Numbered {
  readonly family: number;
  readonly sequence: number;
}

export function encodeGetFamily(sequence: number): Uint8Array {
  return encodeRequest({ family: GENL_ID_CTRL, sequence, command: CTRL_CMD_GETFAMILY, attributes: [encodeString(CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME)] });
}

function encodeSockets(descriptors: readonly number[]): Uint8Array {
  return encodeNested(NBD_ATTR_SOCKETS, descriptors.map((descriptor) => encodeNested(NBD_SOCK_ITEM, [encodeU32(NBD_SOCK_FD, descriptor)])));
}

export function encodeConnect(numbered: Numbered, message: ConnectMessage): Uint8Array {
  const attributes = [
    ...(message.index === null ? [] : [encodeU32(NBD_ATTR_INDEX, message.index)]),
    encodeU64(NBD_ATTR_SIZE_BYTES, message.sizeBytes),
    encodeU64(NBD_ATTR_BLOCK_SIZE_BYTES, message.blockSizeBytes),
    encodeU64(NBD_ATTR_SERVER_FLAGS, message.serverFlags),
    encodeU64(NBD_ATTR_TIMEOUT, message.timeoutSeconds),
    encodeU64(NBD_ATTR_DEAD_CONN_TIMEOUT, message.deadTimeoutSeconds),
    encodeString(NBD_ATTR_BACKEND_IDENTIFIER, message.backend),
    encodeSockets(message.descriptors),
  ];
  return encodeRequest({ ...numbered, command: NBD_CMD_CONNECT, attributes });
}

export function encodeReconfigure(numbered: Numbered, { index, backend, sizeBytes, descriptors = [] }: ReconfigureMessage): Uint8Array {
  const attributes = [
    encodeU32(NBD_ATTR_INDEX, index),
    ...(backend === null ? [] : [encodeString(NBD_ATTR_BACKEND_IDENTIFIER, backend)]),
    ...(sizeBytes === undefined ? [] : [encodeU64(NBD_ATTR_SIZE_BYTES, sizeBytes)]),
    ...(descriptors.length === 0 ? [] : [encodeSockets(descriptors)]),
  ];
  return encodeRequest({ ...numbered, command: NBD_CMD_RECONFIGURE, attributes });
}

export function encodeDisconnect(numbered: Numbered, index: number): Uint8Array {
  return encodeRequest({ ...numbered, command: NBD_CMD_DISCONNECT, attributes: [encodeU32(NBD_ATTR_INDEX, index)] });
}

/** Of all devices. */
export function encodeStatus(numbered: Numbered): Uint8Array {
  return encodeRequest({ ...numbered, command: NBD_CMD_STATUS, attributes: [] });
}

type Message = NetlinkAnswer & { readonly kind: 'message' };

export function decodeFamily({ attributes }: Message): NbdFamily {
  let group: number | null = null;
  for (const { value } of listOf(attributes, CTRL_ATTR_MCAST_GROUPS)) {
    const members = decodeAttributes(value);
    if (stringOf(members, CTRL_ATTR_MCAST_GRP_NAME) === NBD_GENL_MCAST_GROUP_NAME) group = u32Of(members, CTRL_ATTR_MCAST_GRP_ID);
  }
  return { family: u16Of(attributes, CTRL_ATTR_FAMILY_ID), group };
}

/** Which device a connect has got. */
export function decodeConnected({ attributes }: Message): number {
  return u32Of(attributes, NBD_ATTR_INDEX);
}

export function decodeStatus({ attributes }: Message): DeviceStatus[] {
  return listOf(attributes, NBD_ATTR_DEVICE_LIST)
    .filter(({ type }) => type === NBD_DEVICE_ITEM)
    .map(({ value }) => {
      const members = decodeAttributes(value);
      return { index: u32Of(members, NBD_DEVICE_INDEX), isConnected: u8Of(members, NBD_DEVICE_CONNECTED) !== 0 };
    });
}

/** The device of which a connection has died; null: the message says something else. */
export function decodeLinkDead({ command, attributes }: Message): number | null {
  return command === NBD_CMD_LINK_DEAD ? u32Of(attributes, NBD_ATTR_INDEX) : null;
}
