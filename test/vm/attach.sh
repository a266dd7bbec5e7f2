#!/usr/bin/env bash
# attach.sh: the verbs about devices on a real kernel: Debian's user mode Linux (6.1), whose root directory is this machine's, for reading only,
# so that it runs this Node and this build. `make vm-attach` builds basalt and runs it. Needs root: a tap device is the guest's network.
#
#   verbs     attach, mkfs, mount, write, fsck, detach, by each way to name a device; bad input
#   restarts  the server is restarted RESTARTS times (20), every other time by kill -9, while fio writes and verifies files on a mounted ext4, under
#             an agent: no I/O error in any log, all verified, no pause over 10 s
#   resize    a volume is made larger by `basalt resize`: the kernel sees it, the mounted file system grows, and the new part holds data
#   limits    requests of a limited volume wait longer than the kernel's patience: it gives up connections and sends again, and no older write comes over a newer one
#   rescue    of a device whose server is gone: reconnected when it is back; freed, mounted or not
#
# PARTS='verbs rescue' runs some of them. ONE_PROCESS=1 runs the verbs in one process of Node, where starting one takes minutes (a busy machine). CACHE (build/vm) keeps the kernel. Needs busybox-static, e2fsprogs, fio, cpio, iproute2 and apt,
# from which it downloads user-mode-linux. Last line: `attach: ok` or `attach: failed: ...`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
CACHE=${CACHE:-$project/build/vm}
PARTS=${PARTS:-verbs restarts resize limits rescue}
RESTARTS=${RESTARTS:-20}
# Seconds between two restarts: long enough for several rounds of I/O.
INTERVAL=${INTERVAL:-6}
SECONDS_MAX=${SECONDS_MAX:-3600}
ONE_PROCESS=${ONE_PROCESS:-0}
# Seconds that what takes a moment may take.
PATIENCE=${PATIENCE:-120}
SIZE_MIB=256
PATH=$PATH:/usr/sbin:/sbin

fail() { echo "attach: failed: $*" >&2; exit 1; }
((EUID == 0)) || fail 'this needs root, for a tap device'
for program in busybox mke2fs fio cpio ip modprobe; do
  command -v "$program" >/dev/null || fail "$program is not installed"
done

work=$(mktemp -d)
tap=basalt$$
address=198.18.$(($$ / 60 % 250)).$(($$ % 60 * 4 + 1))
guest_address=${address%.*}.$((${address##*.} + 1))
server='' # process ids of what runs
guest=''
cleanup() {
  [[ -z $guest ]] || kill -9 -- "-$guest" 2>/dev/null || true
  [[ -z $server ]] || kill_server
  ip link del "$tap" 2>/dev/null || true
  [[ -z ${KEEP_LOG:-} ]] || cp "$work/console" "$KEEP_LOG" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

fetch_kernel() {
  [[ -x $CACHE/uml/usr/bin/linux.uml ]] && return
  mkdir -p "$CACHE/uml.part"
  (cd "$CACHE/uml.part" && apt-get -qq -o APT::Sandbox::User= download user-mode-linux && dpkg-deb -x user-mode-linux_*.deb . && rm user-mode-linux_*.deb) || fail 'apt has no user-mode-linux: run apt-get update'
  rm -rf "$CACHE/uml" && mv "$CACHE/uml.part" "$CACHE/uml"
}

make_initramfs() {
  local root=$work/initramfs
  mkdir -p "$root/bin"
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp "$here/guest-attach-init.sh" "$root/init"
  chmod +x "$root/init"
  cat >"$root/params" <<PARAMS
PROJECT='$project'
MODULES='$CACHE/uml/usr/lib/uml/modules'
GUEST_IP='$guest_address'
SERVER='nbd://$address:10809'
SIZE_BYTES=$((SIZE_MIB * 1024 * 1024))
PARTS='$PARTS'
ONE_PROCESS=$ONE_PROCESS
PATIENCE=$PATIENCE
PARAMS
  (cd "$root" && find . -mindepth 1 | cpio -o -H newc -R 0:0 --quiet) >"$work/initramfs.cpio"
}

basalt() { node "$project/dist/cli/basalt.cjs" "$@" --data "$work/volumes"; }

start_server() {
  : >"$work/listeners"
  node "$project/dist/cli/basalt.cjs" serve --data "$work/volumes" --listen "$address:10809" >"$work/listeners" 2>>"$work/server.log" &
  server=$!
  until grep -q listening "$work/listeners"; do
    kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 3 "$work/server.log")"
    sleep 0.05
  done
}
kill_server() { { kill -9 "$server" && wait "$server"; } 2>/dev/null || true; server=''; }
# A server that stops in order ends with 0.
stop_server() { kill "$server"; wait "$server" || fail "the server ended with $?: $(tail -n 3 "$work/server.log")"; server=''; }

restart() {
  local count
  for ((count = 1; count <= RESTARTS; count += 1)); do
    sleep "$INTERVAL"
    if ((count % 2 == 0)); then kill_server; else stop_server; fi
    start_server
    echo "attach: restart $count of $RESTARTS, by $( ((count % 2 == 0)) && echo kill -9 || echo SIGTERM)"
  done
  sleep "$INTERVAL"
}

answer() {
  case $1 in
    restarts) restart ;;
    grow) basalt resize growing 256M ;;
    limit) basalt limit limited --iops 15 --iops-burst 1 ;;
    unlimit)
      basalt limit limited --iops none
      grep -q '"event":"client-left-waiting"' "$work/server.log" || fail 'the server dropped nothing of a connection that the kernel had given up'
      ;;
    kill) kill_server ;;
    start) start_server ;;
    *) fail "the guest asks for $1" ;;
  esac
  echo done >&8
}

fetch_kernel
ip tuntap add "$tap" mode tap
ip addr add "$address/30" dev "$tap"
ip link set "$tap" up
make_initramfs
mkdir "$work/volumes"
basalt create demo "${SIZE_MIB}M" >/dev/null
basalt create other "${SIZE_MIB}M" >/dev/null
basalt create growing 128M >/dev/null
basalt create limited 16M >/dev/null
start_server
mkfifo "$work/in" "$work/out"
setsid env TMPDIR=/dev/shm "$CACHE/uml/usr/bin/linux.uml" mem=1024M initrd="$work/initramfs.cpio" rdinit=/init quiet loglevel=1 panic=-1 \
  con=null ssl=null con0=fd:0,fd:1 vec0:transport=tap,ifname="$tap",depth=128,gro=1 <"$work/in" >"$work/out" 2>"$work/err" &
guest=$!
exec 8>"$work/in" 9<"$work/out"
: >"$work/console"
while :; do
  # The status is that of `read`: above 128 nothing has come for a while.
  IFS= read -r -t 10 line <&9 && status=0 || status=$?
  ((SECONDS < SECONDS_MAX)) || fail "the guest is not done after $SECONDS_MAX s; it last said: $(tail -n 3 "$work/console")"
  ((status == 0)) || { ((status > 128)) && continue; break; }
  line=${line%$'\r'}
  echo "$line" >>"$work/console"
  case $line in
    'GUEST asks: '*) answer "${line#GUEST asks: }" ;;
    GUEST*) echo "$line" ;;
  esac
done
wait "$guest" || true
guest=''
grep -q '^GUEST done' "$work/console" || { tail -n 20 "$work/console" "$work/err" >&2; fail 'the guest did not come to its end'; }
! grep -q '^GUEST failed' "$work/console" || fail "$(grep -c '^GUEST failed' "$work/console") checks"
! grep -E '"event":"(request-failed|volume-failed|stop-failed|bug)"' "$work/server.log" || fail 'errors in the log of the server'
[[ -z $server ]] || stop_server
for volume in demo growing limited; do basalt check "$volume" --deep; done
echo "attach: ok, $(grep -c '^GUEST ok' "$work/console") checks"
