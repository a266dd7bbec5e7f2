#!/usr/bin/env bash
# demo.sh [SIZE_MIB]: a volume on a real S3 server, from its making to its recovery from the bucket alone. `make s3-demo` runs it.
#   1. starts Ceph RGW (run-server.sh) and makes a bucket; 2. makes a volume there and serves it; 3. copies SIZE_MIB (1024) of data in;
#   4. drains; 5. stops the server and deletes the whole data directory; 6. open-remote; 7. copies the data out and compares.
# S3_PORT (21900) to S3_PORT+15 and NBD_PORT (21990) must be free. Everything is below a temporary directory, which goes away.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mib=${1:-1024}
s3_port=${S3_PORT:-21900} nbd_port=${NBD_PORT:-21990}
basalt=(node "$root/dist/cli/basalt.cjs")
work=$(mktemp -d "${TMPDIR:-/tmp}/basalt-s3-demo-XXXXXX")
server='' store=''
finish() {
  local process
  for process in $server $store; do
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true # its status is that of a signal
  done
  rm -rf "$work"
}
trap finish EXIT
say() { printf '\n== %s\n' "$*"; }
command -v nbdcopy >/dev/null || { echo "demo.sh: nbdcopy is missing (package libnbd-bin)" >&2; exit 1; }

export AWS_ACCESS_KEY_ID=testaccesskey AWS_SECRET_ACCESS_KEY=testsecretkey1234
export AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true # as the basalt command does
TIMEFORMAT='   %0R s'
bar=(); [[ -t 2 ]] && bar=(--progress)
endpoint="http://127.0.0.1:$s3_port"

serve() { # the server of $work/$1; resolves when it listens
  : >"$work/serve.log" # at once: an earlier server has said that it listens
  "${basalt[@]}" serve --data "$work/$1" --listen "127.0.0.1:$nbd_port" --log-level warn >"$work/serve.log" 2>&1 &
  server=$!
  for _ in $(seq 600); do grep -q listening "$work/serve.log" && return; sleep 0.1; done
  cat "$work/serve.log" >&2
  return 1
}

say "a Ceph gateway on $endpoint (its first start fetches packages)"
"$here/run-server.sh" ceph20 "$work/ceph" "$s3_port" >"$work/ceph.log" 2>&1 &
store=$!
node "$root/build/tools/test/s3/make-bucket.js" "$endpoint" demo || { tail -n 20 "$work/ceph.log" >&2; exit 1; }

say 'a volume in s3://demo/volume'
"${basalt[@]}" create volume "$((mib * 2))M" --remote s3://demo/volume --endpoint "$endpoint" --data "$work/first"
serve first

say "$mib MiB in"
# Half of it at the beginning, the rest in places.
node "$root/build/tools/test/s3/make-image.js" "$work/in.img" "$mib"
time nbdcopy "${bar[@]}" --flush "$work/in.img" "nbd://127.0.0.1:$nbd_port/volume"
"${basalt[@]}" show volume --data "$work/first" | grep ship

say 'drain'
time "${basalt[@]}" drain volume --data "$work/first"

say 'what the bucket has, byte by byte'
time "${basalt[@]}" check volume --remote --deep --data "$work/first"

say 'the server stops, and its directory is deleted'
kill "$server" && wait "$server"
server=''
rm -rf "$work/first"

say 'from the bucket alone'
time "${basalt[@]}" open-remote s3://demo/volume volume --endpoint "$endpoint" --data "$work/second"
serve second
time nbdcopy "${bar[@]}" "nbd://127.0.0.1:$nbd_port/volume" "$work/out.img"
cmp "$work/in.img" "$work/out.img"
say 'what came out is what went in'
