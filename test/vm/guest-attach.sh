#!/bin/bash
# The guest's part of attach.sh: attaches, detaches, rescues with basalt's own verbs on the kernel's own NBD client, and keeps a file system
# busy while the host restarts the server. Each check is a line `GUEST ok: ...` or `GUEST failed: ...`. What the host is to do is asked for
# by `GUEST asks: WORDS`; its answer is a line on the console.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C MODPROBE_OPTIONS='-d /run/kernel'
. /run/params
A=/run/a B=/run/b
log=/tmp/log

seconds() { cut -d ' ' -f 1 /proc/uptime; }
ok() { echo "GUEST ok: $* ($(seconds) s)"; }
failed() { echo "GUEST failed: $*"; tail -n 5 "$log" | sed 's/^/GUEST log: /'; }
# must WORDS COMMAND...: in a shell of its own, so that a `cd` is over with it.
must() { local what=$1; shift; if ("$@") >"$log" 2>&1; then ok "$what"; else failed "$what: $* gave $?"; fi; }
basalt() {
  [ "$ONE_PROCESS" = 1 ] || { node /run/project/dist/cli/basalt.cjs "$@"; return; }
  printf '%s\n' "$@" | tr '\n' '\0' >/tmp/verb.words && echo >/tmp/verb.go
  read -r status </tmp/verb.done
  cat /tmp/verb.out; cat /tmp/verb.error >&2
  return "$status"
}
# refused WORDS PATTERN COMMAND...: it must end with 1 and say that.
refused() {
  local what=$1 pattern=$2 status; shift 2
  "$@" >"$log" 2>&1; status=$?
  if [ $status = 1 ] && grep -qE "$pattern" "$log"; then ok "$what"; else failed "$what: status $status"; fi
}
ask() { echo "GUEST asks: $*"; read -r answer </dev/console; echo "GUEST heard: $answer"; }
attached() { [ -e "/sys/block/nbd$1/pid" ]; }
size() { echo $(($(cat "/sys/block/nbd$1/size") * 512)); }
# within SECONDS COMMAND...
within() {
  local end=$(($(date +%s) + $1)); shift
  until "$@"; do [ "$(date +%s)" -lt $end ] || return 1; sleep 0.2; done
}
io_errors() { dmesg | grep -E 'I/O error|Buffer I/O|EXT4-fs (error|warning)|JBD2.*error|Other side returned error|BUG:|WARNING:|Oops' | tail -n 10; }
clean_log() {
  local found; found=$(io_errors)
  if [ -z "$found" ]; then ok "no I/O error in the kernel's log $1"; else echo "$found" >"$log"; failed "the kernel's log $1"; fi
}

network() {
  ip link set lo up && ip addr add "$GUEST_IP/30" dev vec0 && ip link set vec0 up
}

# ------------------------------------------------------------------- the verbs, once each ---
verbs() {
  must 'nothing is attached before the module is there' eval 'basalt attached --json | grep -qx "\[\]"'
  refused 'an export that is not there' 'has no export' basalt attach nothing --server "$SERVER"
  must 'attach takes the first free device, and loads the module' eval "basalt attach demo --server $SERVER --json | tee /tmp/attached | grep -q '\"device\":\"/dev/nbd0\"'"
  [ "$(size 0)" = "$SIZE_BYTES" ] && ok "the kernel has the size, $(size 0)" || failed "the size is $(size 0), not $SIZE_BYTES"
  [ "$(cat /sys/block/nbd0/backend)" = "$SERVER/demo" ] && ok 'the kernel knows the export' || failed "the backend is $(cat /sys/block/nbd0/backend)"
  must 'mkfs.ext4' mkfs.ext4 -q /dev/nbd0
  must 'mount' mount /dev/nbd0 $A
  must 'write' eval "mkdir $A/d && for n in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=$A/d/\$n bs=100001 count=\$n status=none || exit; done && (cd $A && sha256sum d/*) >/tmp/sums && sync"
  refused 'detach is refused while it is mounted' "mounted on $A" basalt detach demo --server "$SERVER"
  must 'the mount is as it was' eval "cd $A && sha256sum --quiet -c /tmp/sums"
  must 'umount' umount $A
  must 'fsck finds nothing' e2fsck -fn /dev/nbd0
  must 'detach' basalt detach demo --server "$SERVER"
  attached 0 && failed 'nbd0 is attached still' || ok 'the kernel has let go of it'
  refused 'a second detach' 'not attached' basalt detach /dev/nbd0
  must 'attach a device by its name' basalt attach "$SERVER/demo" /dev/nbd1
  refused 'one volume as two devices' 'attached as /dev/nbd1 already' basalt attach "$SERVER/demo" /dev/nbd2
  refused 'a device that is in use' 'is in use' basalt attach "$SERVER/other" nbd1
  must 'what was written is there' eval "mount /dev/nbd1 $A && cd $A && sha256sum --quiet -c /tmp/sums && cd / && umount $A"
  must 'attached tells of it' eval "basalt attached | tee $log | grep -q '/dev/nbd1 .*$SERVER/demo .*nobody'"
  must 'detach by its device' basalt detach /dev/nbd1
  clean_log 'after all that'
}

# --------------------------------------------------- a file system over restarts of the server ---
supervise() { # LOG WORDS...: an agent in the background
  local to=$1; shift
  node /run/project/dist/cli/basalt.cjs attach "$@" --supervise >"$to" 2>&1 &
  agent=$!
}
load() { # until the host says that it is done; files are written, synced, read back and compared
  local n=0
  : >/tmp/latencies
  while [ ! -e /tmp/done ]; do
    n=$((n + 1))
    fio --name=load --directory=$A --filename="load$((n % 3))" --size=24M --rw=randwrite --bs=4k --ioengine=libaio --direct=$((n % 2)) --iodepth=8 --fsync=64 \
      --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=$n --output-format=json --output=/tmp/fio.json >"$log" 2>&1 \
      || { cat /tmp/fio.json >>"$log"; failed "fio, round $n"; return; }
    tr -d ' \n' </tmp/fio.json | grep -oE '"(lat_ns|sync_lat_ns|lat)":\{"min":[0-9]+,"max":[0-9]+' | sed 's/.*"max"://' >>/tmp/latencies
  done
  ok "fio wrote and verified $n times 24 MiB; the longest operation took $(($(sort -n /tmp/latencies | tail -n 1) / 1000000)) ms"
}
# One block written and synced at a time: its gaps are what a program on the device sees.
probe() {
  local began before longest=0 count=0 now
  before=$(date +%s%3N)
  while [ ! -e /tmp/done ]; do
    dd if=/dev/zero of=$B/probe bs=4k count=1 oflag=direct,dsync conv=notrunc status=none 2>>/tmp/probe.errors || echo 'a write failed' >>/tmp/probe.errors
    now=$(date +%s%3N)
    [ $((now - before)) -gt $longest ] && longest=$((now - before))
    before=$now
    count=$((count + 1))
    sleep 0.05
  done
  echo "$count $longest" >/tmp/probed
}
restarts() {
  touch /tmp/probe.errors
  supervise /tmp/agent demo /dev/nbd0 --server "$SERVER" --connections 2 --timeout 3 --size-check 2
  within "$PATIENCE" attached 0 && ok 'an agent attaches' || { cp /tmp/agent "$log"; failed 'no agent'; return; }
  must 'a file system with files' eval "mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 $A && mkdir $A/d && for n in 1 2 3 4; do dd if=/dev/urandom of=$A/d/\$n bs=100001 count=\$n status=none || exit; done && (cd $A && sha256sum d/*) >/tmp/sums && sync"
  mkdir -p $A/probe-here && mount --bind $A/probe-here $B
  { read -r answer </dev/console; echo "GUEST heard: $answer"; touch /tmp/done; } &
  echo "GUEST asks: restarts"
  probe & local prober=$!
  load
  wait $prober
  ok "one synced write at a time: $(cut -d ' ' -f 1 /tmp/probed) of them, the longest pause $(cut -d ' ' -f 2 /tmp/probed) ms"
  [ -s /tmp/probe.errors ] && { cp /tmp/probe.errors "$log"; failed 'writes failed'; }
  [ "$(cut -d ' ' -f 2 /tmp/probed)" -le 10000 ] && ok 'no pause over 10 s' || failed "a pause of $(cut -d ' ' -f 2 /tmp/probed) ms"
  grep -o '"event":"reconnected".*' /tmp/agent | sed 's/^/GUEST agent: /' | tail -n 3
  ok "the agent reconnected $(grep -c '"event":"reconnected"' /tmp/agent) times"
  clean_log 'after the restarts'
  must 'what was written before them is there' eval "cd $A && sha256sum --quiet -c /tmp/sums"
  umount $B; must 'umount' umount $A
  must 'fsck finds nothing' e2fsck -fn /dev/nbd0
  kill $agent; wait $agent
  tail -n 1 /tmp/agent | sed 's/^/GUEST agent: /'
  attached 0 && failed 'SIGTERM leaves nbd0 attached' || ok 'SIGTERM detaches the device'
}

# ----------------------------------------------------------- more than a limit lets pass in time ---
# Rounds of writes over the same blocks, 64 at a time at 15 a second: each waits for four seconds, and the kernel for two.
limits() {
  local round
  supervise /tmp/agent3 "$SERVER/limited" /dev/nbd0 --connections 2 --timeout 2
  within "$PATIENCE" attached 0 || { cp /tmp/agent3 "$log"; failed 'no agent'; return; }
  ask limit
  for round in 1 2 3 4 5 6; do
    fio --name=round --filename=/dev/nbd0 --rw=randwrite --bs=4k --size=512k --ioengine=libaio --direct=1 --iodepth=64 --verify=pattern --verify_pattern=0x1$round --verify_fatal=1 \
      --do_verify=1 --verify_state_save=0 --randseed=$round >"$log" 2>&1 || { failed "round $round of writes"; break; }
    ok "round $round of writes, and all of it read back"
  done
  ask unlimit
  sleep 1
  fio --name=last --filename=/dev/nbd0 --rw=read --bs=4k --size=512k --ioengine=libaio --direct=1 --iodepth=64 --verify=pattern --verify_pattern=0x1$round --verify_fatal=1 >"$log" 2>&1 \
    && ok 'nothing older came over the last round' || failed 'the last round'
  [ "$(dmesg | grep -c 'Connection timed out')" -gt 0 ] && ok "the kernel gave up waiting $(dmesg | grep -c 'Connection timed out') times" || failed 'the kernel did not give up waiting: this tests nothing'
  clean_log 'with a limit'
  kill $agent; wait $agent
}

# ------------------------------------------------------------------- a volume that grows ---
resize() {
  supervise /tmp/agent2 "$SERVER/growing" --size-check 1
  within "$PATIENCE" attached 0 || { cp /tmp/agent2 "$log"; failed 'no agent'; return; }
  local before; before=$(size 0)
  must 'mount what will grow' eval "mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 $A"
  ask grow
  grown() { [ "$(size 0)" -gt "$before" ]; }
  within "$PATIENCE" grown && ok "the kernel sees the new size: $(size 0), was $before" || failed "the size stays $(size 0)"
  must 'the mounted file system grows' resize2fs /dev/nbd0
  must 'and takes more than the old size' eval "dd if=/dev/urandom of=$A/f bs=1M count=160 conv=fsync status=none && echo 3 >/proc/sys/vm/drop_caches && sha256sum $A/f >/tmp/grown.sum && sha256sum --quiet -c /tmp/grown.sum"
  must 'and is clean' eval "umount $A && e2fsck -fn /dev/nbd0"
  kill $agent; wait $agent
  attached 0 && failed 'nbd0 is attached still' || ok 'detached'
}

# ------------------------------------------------------------------- a server that is gone ---
rescue() {
  must 'attach what will be left alone' basalt attach "$SERVER/other" /dev/nbd0 --timeout 2 --dead-timeout 600
  must 'mount' eval "mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 $A && dd if=/dev/urandom of=$A/f bs=1M count=2 conv=fsync status=none && sha256sum $A/f >/tmp/f.sum"
  ask kill
  (dd if=/dev/zero of=$A/g bs=4k count=1 oflag=direct,dsync status=none; echo $? >/tmp/hung) 2>/dev/null &
  sleep 5
  [ -e /tmp/hung ] && failed 'a write ends without a server' || ok 'a write hangs without a server'
  refused 'rescue keeps what is mounted' 'mounted on' basalt rescue /dev/nbd0
  refused 'detach says what there is to do' 'mounted on' basalt detach /dev/nbd0
  ask start
  must 'rescue reconnects when the server is back' eval "basalt rescue /dev/nbd0 | tee $log | grep -q 'new connections'"
  hung() { [ -e /tmp/hung ]; }
  within "$PATIENCE" hung && [ "$(cat /tmp/hung)" = 0 ] && ok 'the write that hung is done' || failed "the write that hung: $(cat /tmp/hung)"
  must 'nothing is lost' sha256sum --quiet -c /tmp/f.sum
  clean_log 'after a rescue that reconnects'
  ask kill
  (dd if=/dev/zero of=$A/g bs=4k count=1 oflag=direct,dsync status=none; echo $? >/tmp/hung2) 2>/dev/null &
  sleep 2
  must 'rescue --yes ends it' eval "basalt rescue /dev/nbd0 --yes | tee $log | grep -q 'umount $A'"
  hung2() { [ -e /tmp/hung2 ]; }
  within "$PATIENCE" hung2 && [ "$(cat /tmp/hung2)" != 0 ] && ok 'the write that hung has failed' || failed 'a write hangs still'
  must 'umount' umount -l $A
  free() { ! attached 0; }
  within "$PATIENCE" free && ok 'the device is free' || failed 'the device is taken still'
  ask start
  must 'it can be attached again' eval "basalt attach $SERVER/other /dev/nbd0 && e2fsck -fy /dev/nbd0; [ \$? -le 1 ] && mount /dev/nbd0 $A && sha256sum --quiet -c /tmp/f.sum && umount $A"
  ask kill
  refused 'detach without a server loses nothing' 'basalt rescue /dev/nbd0' basalt detach /dev/nbd0
  must 'rescue frees what nobody uses' eval "basalt rescue /dev/nbd0 | grep -q 'is free'"
  attached 0 && failed 'nbd0 is attached still' || ok 'it is free'
}

# One verb after another in one process: for each byte in /tmp/verb.go it runs the words of /tmp/verb.words (each ends with NUL), writes
# /tmp/verb.out and /tmp/verb.error, and the exit code to /tmp/verb.done.
one_process() {
  mkfifo /tmp/verb.go /tmp/verb.done
  node --input-type=module --eval '
    import { readFileSync, writeFileSync } from "node:fs";
    const printed = {};
    for (const name of ["stdout", "stderr"]) process[name].write = (text) => { printed[name] += text; return true; };
    for (let count = 1; ; count += 1) {
      readFileSync("/tmp/verb.go");
      Object.assign(printed, { stdout: "", stderr: "" });
      process.argv = [process.execPath, "basalt", ...readFileSync("/tmp/verb.words", "utf8").split("\0").slice(0, -1)];
      await import(`/run/project/dist/cli/main.js?${count}`); // the module that runs the program, evaluated anew
      writeFileSync("/tmp/verb.out", printed.stdout);
      writeFileSync("/tmp/verb.error", printed.stderr);
      writeFileSync("/tmp/verb.done", `${process.exitCode}\n`);
    }' &
}

network
[ "$ONE_PROCESS" = 0 ] || one_process
for part in $PARTS; do
  echo "GUEST part: $part ($(seconds) s, kernel $(uname -r))"
  $part
done
echo 'GUEST done'
sleep 0.5
poweroff -f
