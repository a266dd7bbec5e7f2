#!/bin/bash
# swift.sh DATA PORT: one node of OpenStack Swift (proxy, account, container, object) with s3api, on loopback. Started by run-server.sh in the
# tree of its packages.
set -euo pipefail
data=$1 port=$2
mkdir -p "$data"/{etc,srv/d1,log,cache,python}
kinds=(account container object)

write_server() { # kind, its port
  cat >"$data/etc/$1-server.conf" <<CONF
[DEFAULT]
devices = $data/srv
swift_dir = $data/etc
mount_check = false
disable_fallocate = true
bind_ip = 127.0.0.1
bind_port = $2
workers = 1
user = root
log_level = WARNING
log_address = /dev/null
recon_cache_path = $data/cache
[pipeline:main]
pipeline = $1-server
[app:$1-server]
use = egg:swift#$1
CONF
}

write_proxy() {
  cat >"$data/etc/swift.conf" <<CONF
[swift-hash]
swift_hash_path_suffix = one
swift_hash_path_prefix = two
[storage-policy:0]
name = gold
policy_type = replication
default = yes
CONF
  cat >"$data/etc/proxy-server.conf" <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
swift_dir = $data/etc
workers = 1
user = root
log_level = WARNING
log_address = /dev/null
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo symlink versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
client_chunk_size = 1048576
object_chunk_size = 1048576
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((port + 9))
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testsecretkey1234 .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
check_bucket_owner = false
force_swift_request_proxy_log = false
[filter:copy]
use = egg:swift#copy
[filter:symlink]
use = egg:swift#symlink
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
CONF
}

if [[ ! -e $data/made ]]; then
  write_proxy
  cd "$data/etc"
  for i in "${!kinds[@]}"; do
    kind=${kinds[i]}
    write_server "$kind" $((port + 1 + i))
    swift-ring-builder "$kind.builder" create 4 1 1 >/dev/null
    swift-ring-builder "$kind.builder" add "r1z1-127.0.0.1:$((port + 1 + i))/d1" 1 >/dev/null
    swift-ring-builder "$kind.builder" rebalance >/dev/null
  done
  # Swift gives its groups up, which a user namespace refuses; it has none here.
  echo 'import os; os.setgroups = lambda *groups: None' >"$data/python/sitecustomize.py"
  touch "$data/made"
fi
mkdir -p /mnt/etc
export SWIFT_DIR=$data/etc PYTHONPATH=$data/python
if [[ -d /etc/swift ]]; then mount --rbind "$data/etc" /etc/swift; fi
processes=()
trap 'trap "" TERM INT; kill -KILL "${processes[@]}" 2>/dev/null; exit 0' TERM INT
memcached -l 127.0.0.1 -p $((port + 9)) -m 16 -u root >/dev/null 2>&1 &
processes+=($!)
start() {
  "swift-$1-server" "$data/etc/$1-server.conf" >"$data/log/$1.out" 2>&1 &
  processes+=($!)
}
for kind in "${kinds[@]}"; do start "$kind"; done
# The proxy leaves a server alone for a minute that did not answer it: so it comes last.
for i in "${!kinds[@]}"; do
  for ((tries = 0; tries < 600; tries++)); do
    (: <"/dev/tcp/127.0.0.1/$((port + 1 + i))") 2>/dev/null && break
    sleep .05
  done
done
start proxy
wait -n || true
kill -KILL "${processes[@]}" 2>/dev/null || true
