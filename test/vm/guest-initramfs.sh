#!/bin/busybox sh
# /init of the guest's initramfs: loads modules, mounts the disk and goes on there.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do
  $b insmod "/modules/$module" || echo "GUEST module $module is not loaded"
done </modules/order
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 -o discard /dev/vda /volume || echo 'GUEST the root file system is not mounted'
for place in proc sys dev; do $b mount --move "/$place" "/volume/$place"; done
exec $b switch_root /volume /sbin/init
