#!/bin/busybox sh
# /init of the guest's initramfs: the root directory of the host, for reading only, becomes that of the guest (hostfs of user mode Linux),
# with the places that are written to in memory; then guest-attach.sh goes on. /params says where things are.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /host
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
. /params
$b mount -t hostfs -o / none /host -r || echo 'GUEST failed: the root directory of the host is not mounted'
for place in proc sys dev; do $b mount --move "/$place" "/host/$place"; done
for place in tmp run mnt; do $b mount -t tmpfs tmpfs "/host/$place"; done
$b mkdir -p /host/run/project "/host/run/kernel/lib/modules" /host/run/a /host/run/b
$b mount -t hostfs -o "$PROJECT" none /host/run/project -r
$b mount -t hostfs -o "$MODULES" none /host/run/kernel/lib/modules -r
$b cp /params /host/run/params
exec $b chroot /host /bin/bash /run/project/test/vm/guest-attach.sh
