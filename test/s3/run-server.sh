#!/usr/bin/env bash
# run-server.sh KIND DATA PORT [--until-eof]: a real S3 server on 127.0.0.1:PORT, in the foreground, as any user, without containers.
# SIGTERM to its process group stops it; with --until-eof the end of its standard input does, too, so that it never outlives a test.
#   KIND   ceph20  Ceph RGW 20 (suite forky): conditional writes of every kind
#          ceph18  Ceph RGW 18 (suite trixie): creates only (If-None-Match)
#          swift   OpenStack Swift with s3api (suite trixie): no conditional write, it answers 501
#   DATA   what the server keeps; it stays with the PORT that it was made with. PORT to PORT+15 must be free.
# run-server.sh KIND --unpack: only fetches the packages (the first use of a KIND does), and says whether this machine can run them.
# The packages are unpacked below ${XDG_CACHE_HOME:-~/.cache}/basalt-test (BASALT_TEST_CACHE).
# Credentials: testaccesskey / testsecretkey1234; Swift: test:tester / testsecretkey1234.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kind=$1
cache=${BASALT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/basalt-test}
case $kind in
  ceph20) suite=forky script=rgw.sh packages=(ceph-mon ceph-osd ceph-common radosgw) ;;
  ceph18) suite=trixie script=rgw.sh packages=(ceph-mon ceph-osd ceph-common radosgw) ;;
  swift) suite=trixie script=swift.sh packages=(swift-proxy swift-account swift-container swift-object memcached) ;;
  *) echo "run-server.sh: no kind of server is called $kind" >&2; exit 2 ;;
esac
# Namespaces of its own: the tree is its root, and when its first process ends, so does all that it started.
namespaces=(unshare --user --map-root-user --mount --pid --fork --kill-child --propagation private)
"${namespaces[@]}" true || { echo "run-server.sh: this user may not make namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)" >&2; exit 3; }
tree=$("$here/../support/unpack-packages.sh" "$cache" "$kind" "$suite" "${packages[@]}")
[[ $2 == --unpack ]] && { echo "$tree"; exit; }

mkdir -p "$2"
data=$(cd "$2" && pwd) port=$3
"${namespaces[@]}" bash -c '
  tree=$1 data=$2 port=$3 here=$4 script=$5
  mount -t proc proc "$tree/proc"; mount --rbind /dev "$tree/dev"
  mount -t tmpfs none "$tree/tmp"; mount -t tmpfs none "$tree/mnt"
  mkdir "$tree/mnt/data" "$tree/mnt/scripts"
  mount --rbind "$data" "$tree/mnt/data"; mount --rbind "$here" "$tree/mnt/scripts"
  exec chroot "$tree" /bin/bash "/mnt/scripts/$script" /mnt/data "$port"' _ "$tree" "$data" "$port" "$here" "$script" </dev/null &
server=$!
first_process() { cat "/proc/$server/task/$server/children" 2>/dev/null; } # of the namespace: what `unshare` forked
stop() { kill -TERM $(first_process) 2>/dev/null || kill -KILL "$server" 2>/dev/null || true; }
trap stop TERM INT
if [[ ${4:-} == --until-eof ]]; then
  exec 3<&0
  { cat <&3 >/dev/null; stop; } &
  exec 3<&- 0</dev/null
fi
while kill -0 "$server" 2>/dev/null; do wait "$server" || true; done
kill $(jobs -p) 2>/dev/null || true
