#!/usr/bin/env bash
# fetch-newer-clients.sh DIR [SUITE]: unpacks the NBD clients of a later Debian suite (trixie: libnbd 1.22, QEMU 10), with the
# libraries that they need, below DIR, and puts a script for each in DIR/tools. Nothing is installed and nothing outside DIR is changed.
# `unpack-packages.sh` says what that needs. Does nothing if DIR/tools is there, and whole.
set -euo pipefail
mkdir -p "$1"
root=$(cd "$1" && pwd)
suite=${2:-trixie}
[[ -e $root/tools/qemu-nbd ]] && exit 0
here=$(cd "$(dirname "$0")" && pwd)
tree=$("$here/../support/unpack-packages.sh" "$root" packages "$suite" libnbd-bin python3-libnbd python3-minimal qemu-utils)

# Each runs with the C library that it came with, which this machine's need not be.
loader=$(echo "$tree"/usr/lib/*/ld-linux-*.so.*)
libraries=$(dirname "$loader")
mkdir "$root/tools.new"
script() { # name, words that run it
  printf '#!/bin/sh\nexec "%s" --library-path "%s" %s "$@"\n' "$loader" "$libraries" "$2" >"$root/tools.new/$1"
  chmod +x "$root/tools.new/$1"
}
for tool in nbdinfo nbdcopy nbddump qemu-img qemu-io qemu-nbd; do script "$tool" "\"$tree/usr/bin/$tool\""; done
script nbdsh "\"$tree/usr/bin/python3\" -m nbd"
sed -i "s|^exec|PYTHONHOME=\"$tree/usr\" PYTHONPATH=\"$tree/usr/lib/python3/dist-packages\" exec|" "$root/tools.new/nbdsh"
rm -rf "$root/tools"
mv "$root/tools.new" "$root/tools" # last, so that what is there is whole
