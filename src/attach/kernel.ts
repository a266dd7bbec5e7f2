/** The kernel's NBD client, as attaching needs it. `netlink-kernel.ts` is the real one, tests have their own. */
import type { ConnectMessage, DeviceStatus, ReconfigureMessage } from './nbd-netlink.ts';

/** Ends a subscription. */
export type Unsubscribe = () => void;

/** All reject with a `VolumeError`: `denied` without the right, `in-use`, `not-found` for a device that is not attached. */
export interface NbdKernel {
  /** Attaches a device, whose number is returned. The descriptors stay the caller's to close. */
  connect(message: ConnectMessage): Promise<number>;
  /** Changes an attached device. Of its connections dead ones are replaced, in their order; sockets that none is dead for are left alone. */
  reconfigure(message: ReconfigureMessage): Promise<void>;
  /** Ends a device's connections; requests that are under way fail. A device that is open stays taken until it is closed. */
  disconnect(index: number): Promise<void>;
  status(): Promise<readonly DeviceStatus[]>;
  /** Calls `onDead` for each connection that dies, with the device; with null where the kernel may have said something that was lost. */
  watch(onDead: (index: number | null) => void, onFailed: (error: unknown) => void): Promise<Unsubscribe>;
  close(): void;
}
