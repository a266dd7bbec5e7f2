#!/bin/sh
# The life of a volume, as a script sees it: by --json and exit statuses alone. Works in the empty directory that it is started in; takes basalt, node and nbdcopy from the path.
set -eu
field() { node -pe "JSON.parse(require('fs').readFileSync(0, 'utf8'))$1"; }
refused() { code=$1; shift; if "$@" 2> error.json; then return 1; fi; test "$(field .error.code < error.json)" = "$code"; }

head -c 8388608 /dev/urandom > image
test "$(basalt create disk 8M --json | field .sizeBytes)" = 8388608
refused already-exists basalt create disk 8M --json
mkfifo listening
basalt serve --listen 127.0.0.1:0 --json > listening 2> server.log &
server=$!
trap 'kill "$server"' EXIT
uri=$(head -n 1 listening | field .uri)
nbdcopy --flush image "${uri}disk"
nbdcopy "${uri}disk" copy
cmp image copy
test "$(basalt label disk owner=alice --json | field .labels.owner)" = alice
test "$(basalt rename disk archive --json | field .renamedFrom)" = disk
refused not-found basalt show disk --json
test "$(basalt show archive --json | field .labels.owner)" = alice
refused usage basalt resize archive 4M --json
test "$(basalt resize archive 16M --json | field .sizeBytes)" = 16777216 && nbdcopy "${uri}archive" copy && cmp --bytes=8388608 image copy
trap - EXIT
kill "$server"
wait "$server"
refused not-found basalt stats --json
test "$(basalt delete archive --yes --json | field .deleted)" = archive
test "$(basalt list --json | field .length)" = 0
