#!/bin/busybox sh
# /sbin/init of the root file system in the volume. In its first life it writes, deletes and trims; in its second it checks
# that, and writes more. All that is to last is noted in /data/sums and synced. Then it powers off.
export PATH=/applets
b=/bin/busybox
exec </dev/console >/dev/console 2>&1
$b mkdir -p /applets
$b --install -s /applets
life=first
[ -e /data/sums ] && life=second
failed=0
must() { "$@" || { echo "GUEST failed: $*"; failed=1; }; }

# write_files NAME: small ones, a large one, one that is written in pieces out of order.
write_files() {
  echo "GUEST writes $1"
  must mkdir -p "/data/$1/small"
  n=0
  while [ $n -lt 150 ]; do
    must dd if=/dev/urandom of="/data/$1/small/$n" bs=$((n * 37 + 1)) count=1 2>/dev/null
    [ $((n % 10)) != 0 ] || must sync # so that requests are under way all the time
    n=$((n + 1))
  done
  must dd if=/dev/urandom of="/data/$1/large" bs=1M count=24 2>/dev/null
  for piece in 7 2 9 0 4; do
    must dd if=/dev/urandom of="/data/$1/pieces" bs=100001 seek=$piece count=1 conv=notrunc,fsync 2>/dev/null
  done
  must cp -r /bin "/data/$1/copy"
}

if [ $life = first ]; then
  write_files one
  must dd if=/dev/urandom of=/data/deleted bs=1M count=16 2>/dev/null
  must sync
  must rm /data/deleted
else
  must sha256sum -s -c /data/sums
  write_files two
  must rm -r /data/one/small/1?
fi
must sync
must fstrim -v /
cd / && find data -type f ! -name sums | sort | xargs sha256sum >/tmp/sums
must cp /tmp/sums /data/sums
echo "GUEST $life: $(wc -l </data/sums) files, kernel $(uname -r), $(cut -d ' ' -f 1 /proc/uptime) s"
must sync
must mount -o remount,ro /
[ $failed = 0 ] && echo "GUEST done: $life"
sleep 1
poweroff -f
