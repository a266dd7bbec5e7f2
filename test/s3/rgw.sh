#!/bin/bash
# rgw.sh DATA PORT: one monitor, one OSD and the S3 gateway of a Ceph, on loopback. Started by run-server.sh in the tree of its packages.
# SIGTERM stops all three. No manager and no systemd are needed.
set -euo pipefail
data=$1 port=$2
conf=$data/ceph.conf
export CEPH_CONF=$conf
first=0
[[ -e $data/made ]] || first=1

write_configuration() {
  local id
  id=$(</proc/sys/kernel/random/uuid)
  cat >"$conf" <<CONF
[global]
fsid = $id
mon_host = v2:127.0.0.1:$((port + 1))
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = $((port + 2))
ms_bind_port_max = $((port + 15))
# Nobody but this loopback's user is kept out. The gateway asks for encryption unless it is told not to, and gets none without keys.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = true
ms_mon_client_mode = crc
ms_mon_cluster_mode = crc
ms_mon_service_mode = crc
run_dir = $data/run
admin_socket = $data/run/\$name.asok
pid_file = $data/run/\$name.pid
log_file = $data/log/\$name.log
mon_cluster_log_file = $data/log/cluster.log
keyring = $data/keyring
mon_data = $data/mon
osd_data = $data/osd
rgw_data = $data/rgw
crash_dir = $data/run
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
mon_osd_full_ratio = .985
mon_osd_nearfull_ratio = .97
mon_osd_backfillfull_ratio = .975
# One monitor has nobody to wait for: 3 s to the first request in place of 15 s.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
bluestore_block_create = true
bluestore_block_size = 21474836480
bluestore_fsck_on_mount = false
osd_memory_target = 939524096
osd_class_update_on_start = true
osd_op_num_shards = 2
# Without tcp_nodelay each small answer waits 40 ms for an acknowledgement.
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_dynamic_resharding = false
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_enable_lc_threads = false
rgw_gc_obj_min_wait = 30
rgw_gc_processor_period = 30
rgw_thread_pool_size = 64
rgw_override_bucket_index_max_shards = 1
rgw_run_sync_thread = false
CONF
  monmaptool --create --clobber --fsid "$id" --addv a "[v2:127.0.0.1:$((port + 1))]" "$data/monmap" >/dev/null
}

if ((first)); then
  rm -rf "$data"/{mon,osd,run,log,rgw}
  mkdir -p "$data"/{mon,osd,run,log,rgw}
  write_configuration
  : >"$data/keyring"
  ceph-authtool "$data/keyring" --create-keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
  ceph-authtool "$data/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
  ceph-mon -c "$conf" --mkfs -i a --monmap "$data/monmap" --keyring "$data/keyring"
fi

monitor='' osd='' gateway=''
stop() { # the gateway holds no state; the other two close their stores
  trap '' TERM INT
  [[ -z $gateway ]] || kill -KILL "$gateway" 2>/dev/null || true
  [[ -z $osd ]] || { kill -TERM "$osd" && wait "$osd"; } 2>/dev/null || true
  [[ -z $monitor ]] || { kill -TERM "$monitor" && wait "$monitor"; } 2>/dev/null || true
  exit 0
}
trap stop TERM INT
ceph-mon -c "$conf" -f -i a >"$data/log/mon.out" 2>&1 &
monitor=$!
if ((first)); then
  osd_id=$(</proc/sys/kernel/random/uuid)
  ceph -c "$conf" --connect-timeout 20 osd new "$osd_id" >/dev/null
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd_id" >"$data/log/osd-mkfs.out" 2>&1
fi
rm -f "$data/log/osd.0.log"
ceph-osd -c "$conf" -f -i 0 >"$data/log/osd.out" 2>&1 &
osd=$!
# Whoever asks before the OSD is up sleeps for a tick of five seconds: so ask afterwards.
for ((i = 0; i < 600; i++)); do
  grep -q 'booting -> active' "$data/log/osd.0.log" 2>/dev/null && break
  sleep .05
done
if ((first)); then
  radosgw-admin -c "$conf" user create --uid=test --display-name=test --access-key=testaccesskey --secret-key=testsecretkey1234 >"$data/log/user.out" 2>&1
  # A second one, whose buckets are full with a mebibyte.
  radosgw-admin -c "$conf" user create --uid=guest --display-name=guest --access-key=guestaccesskey --secret-key=guestsecretkey1234 >"$data/log/guest.out" 2>&1
  radosgw-admin -c "$conf" quota set --uid=guest --quota-scope=bucket --max-size=1048576 >>"$data/log/guest.out" 2>&1
  radosgw-admin -c "$conf" quota enable --uid=guest --quota-scope=bucket >>"$data/log/guest.out" 2>&1
  touch "$data/made"
fi
radosgw -c "$conf" -f -n client.admin >"$data/log/rgw.out" 2>&1 &
gateway=$!
wait -n "$monitor" "$osd" "$gateway" || true
stop
