#!/usr/bin/env bash
# boot.sh: boots a Debian kernel in QEMU (TCG, x86-64) whose root file system is a basalt volume, and checks what the guest wrote.
# `make vm-boot` builds basalt and runs it; it takes about a minute, no root and no KVM.
#
#   1. A root file system (ext4, busybox) is made as an image and copied into a new volume by nbdcopy.
#   2. The guest boots from it over TCP (the kernel and a small initramfs come from QEMU), writes, deletes and trims files, syncs, powers off.
#   3. The server is killed with SIGKILL and started anew: what the guest has synced must be there.
#   4. The guest boots again, over the unix socket, checks all it had written, writes more, powers off. While it writes the server is killed
#      and started again: QEMU connects anew (reconnect-delay), and the guest must not notice.
#   5. The host copies the volume out: e2fsck must find it clean, and the files must have the checksums that the guest noted;
#      `basalt check --deep` must find nothing.
#
# Needs qemu-system-x86, qemu-block-extra, busybox-static, e2fsprogs, libnbd-bin, cpio, kmod, xz-utils and apt (it downloads Debian's
# linux-image-cloud-amd64 and unpacks it in CACHE, build/vm). Last line: `boot: ok` or `boot: failed: ...`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
CACHE=${CACHE:-$project/build/vm}
BOOT_SECONDS_MAX=${BOOT_SECONDS_MAX:-300}
SIZE_MIB=256
FILES=296 # that guest-root.sh leaves: 153 of each life, without 10
PATH=$PATH:/usr/sbin:/sbin

fail() { echo "boot: failed: $*" >&2; exit 1; }
for program in qemu-system-x86_64 busybox mke2fs e2fsck debugfs nbdcopy cpio modprobe depmod; do
  command -v "$program" >/dev/null || fail "$program is not installed"
done

work=$(mktemp -d)
server='' # process ids of what runs
guest=''
cleanup() {
  local process
  for process in $guest $server; do { kill -9 "$process" && wait "$process"; } 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

# The kernel, from where this machine's packages come from.
fetch_kernel() {
  [[ -s $CACHE/kernel/release ]] && return
  rm -rf "$CACHE/kernel" && mkdir -p "$CACHE/kernel"
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
  [[ -n $package ]] || fail 'apt knows no linux-image-cloud-amd64: run apt-get update'
  (cd "$CACHE/kernel" && apt-get -qq -o APT::Sandbox::User= download "$package" && dpkg-deb -x "$package"_*.deb . && rm "$package"_*.deb)
  (cd "$CACHE/kernel/lib/modules" && echo *) >"$work/release"
  depmod -b "$CACHE/kernel" "$(<"$work/release")"
  mv "$work/release" "$CACHE/kernel/release" # last, so that what is there is whole
}

# An initramfs that can mount a virtio disk: busybox, the modules in the order of their loading, and guest-initramfs.sh.
make_initramfs() {
  local root=$work/initramfs module
  mkdir -p "$root"/{bin,modules,dev,proc,sys,volume}
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp "$here/guest-initramfs.sh" "$root/init"
  for module in virtio_pci virtio_blk ext4 crc32c_generic; do
    modprobe -d "$CACHE/kernel" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
  done | awk '!seen[$0]++' | while read -r module; do
    case $module in
      *.xz) xz -dc "$module" >"$root/modules/$(basename "$module" .xz)" ;;
      *) cp "$module" "$root/modules/" ;;
    esac
    basename "$module" .xz >>"$root/modules/order"
  done
  (cd "$root" && find . -mindepth 1 | cpio -o -H newc -R 0:0 --quiet) >"$work/initramfs.cpio"
}

make_root() {
  local root=$work/root
  mkdir -p "$root"/{bin,sbin,dev,proc,sys,tmp,data}
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp "$here/guest-root.sh" "$root/sbin/init"
  truncate -s "${SIZE_MIB}M" "$work/root.img"
  mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$work/root.img"
}

basalt() { node "$project/dist/cli/basalt.cjs" "$@" --data "$work/volumes"; }

start_server() {
  : >"$work/listeners"
  node "$project/dist/cli/basalt.cjs" serve --data "$work/volumes" --listen 127.0.0.1:0 --socket "$work/nbd.sock" >"$work/listeners" 2>>"$work/server.log" &
  server=$!
  until (($(wc -l <"$work/listeners") == 2)); do
    kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 3 "$work/server.log")"
    sleep 0.1
  done
  tcp=$(grep -o 'nbd://127.0.0.1:[0-9]*' "$work/listeners")/root
  unix="nbd+unix:///root?socket=$work/nbd.sock"
}

# boot NAME DRIVE [COMMAND]: one life of the guest, which tells the end of it on its console. COMMAND is run once it has begun to write.
boot() {
  echo "boot: $1"
  : >"$work/console"
  timeout "$BOOT_SECONDS_MAX" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 512 -smp 1 -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$CACHE/kernel/boot/vmlinuz-$release" -initrd "$work/initramfs.cpio" -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off random.trust_cpu=on" \
    -drive "$2,if=virtio,cache=writeback,discard=unmap,detect-zeroes=unmap" -serial "file:$work/console" -monitor none &
  guest=$!
  if (($# > 2)); then
    until grep -aq '^GUEST writes' "$work/console"; do
      kill -0 "$guest" 2>/dev/null || break
      sleep 0.1
    done
    "$3"
  fi
  wait "$guest" || { tail -n 20 "$work/console" >&2; fail "the guest did not power off"; }
  guest=''
  grep -a '^GUEST' "$work/console" | tr -d '\r'
  grep -aq "^GUEST done: $1" "$work/console" || { tail -n 20 "$work/console" >&2; fail "the guest did not come to its end"; }
}

restart_server() {
  { kill -9 "$server" && wait "$server"; } 2>/dev/null || true # in braces, or bash has words about it
  start_server
  echo 'boot: the server was killed, and is back'
}

check_from_host() {
  nbdcopy "$unix" "$work/after.img"
  e2fsck -fn "$work/after.img" >"$work/fsck" 2>&1 || fail "e2fsck: $(cat "$work/fsck")"
  mkdir "$work/found"
  debugfs -R "rdump /data $work/found" "$work/after.img" 2>/dev/null
  local sums=$work/found/data/sums
  (($(wc -l <"$sums") == FILES)) || fail "the guest noted $(wc -l <"$sums") checksums"
  (cd "$work/found" && sha256sum --quiet -c data/sums) || fail 'files are not what the guest wrote'
  [[ ! -e $work/found/data/deleted ]] || fail 'a deleted file is there'
  echo "boot: the host finds a clean file system and $(wc -l <"$sums") files as they were written"
}

fetch_kernel
release=$(<"$CACHE/kernel/release")
make_initramfs
make_root
mkdir "$work/volumes"
basalt create root "${SIZE_MIB}M" >/dev/null
start_server
nbdcopy --flush "$work/root.img" "$tcp"
boot first "file=$tcp,format=raw"
restart_server
boot second "driver=raw,file.driver=nbd,file.path=$work/nbd.sock,file.export=root,file.reconnect-delay=60" restart_server
check_from_host
kill "$server"
wait "$server" || fail "the server ended with $?: $(tail -n 3 "$work/server.log")"
server=''
basalt check root --deep
echo 'boot: ok'
