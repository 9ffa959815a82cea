#!/bin/sh
# First process of a lab node, already in its cgroup and in its own network, mount, UTS and IPC namespaces: builds the
# node's view of the file system, then keeps the agent running, as systemd would. When this ends, its mounts are gone.
#
# $1 node name, $2 node directory, $3 run directory, $4 store directory, $5 cgroup of the agent, $6 project directory;
# the rest is the agent's command.
set -eu
name=$1 directory=$2 run=$3 store=$4 agent_cgroup=$5 project=$6
shift 6

hostname "$name"
new=$directory/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$new"

mount -t proc -o nosuid,nodev,noexec proc "$new/proc"
# A fresh sysfs shows the node's own network interfaces.
mount -t sysfs -o nosuid,nodev,noexec sysfs "$new/sys"
for place in /sys/fs/cgroup /sys/fs/bpf /sys/kernel/debug /sys/kernel/tracing; do
  if mountpoint -q "$place"; then mount --rbind "$place" "$new$place"; fi
done
mount --rbind /dev "$new/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$new/dev/shm"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$new/run"
mkdir -p "$new/run/understudy" "$new/run/lock" "$new/run/old-root"
mkdir -p "$new/var/lib/understudy" "$new/var/lib/understudy-store" "$new/var/lib/understudy-lab"

# Other disks of the machine are not part of the overlay: the project may be on one of them, and is only read.
if [ "$(stat -c %d "$project")" != "$(stat -c %d /)" ]; then
  mkdir -p "$new$project"
  mount --rbind "$project" "$new$project"
  mount -o remount,bind,ro "$new$project"
fi
mount --bind "$run" "$new/run/understudy"
mount --bind "$directory/state" "$new/var/lib/understudy"
mount --bind "$store" "$new/var/lib/understudy-store"
# The other nodes' disks are on this machine, but not on this node.
mount -t tmpfs -o ro,mode=755 tmpfs "$new/var/lib/understudy-lab"

cd "$new"
pivot_root . run/old-root
cd /
umount -l /run/old-root
rmdir /run/old-root

# Where the cluster store is an etcd, some nodes have a member of it.
if [ -x /etc/understudy/store-member ]; then setsid /etc/understudy/store-member "$(dirname "$agent_cgroup")/store" & fi

delay=1
while :; do
  started=$(date +%s)
  code=0
  sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"' agent "$agent_cgroup" "$@" || code=$?
  if [ $(($(date +%s) - started)) -ge 10 ]; then delay=1; fi
  echo "node: the agent ended with exit code $code; it starts again in $((delay / 10)).$((delay % 10)) s"
  sleep "$((delay / 10)).$((delay % 10))"
  delay=$((delay < 16 ? delay * 2 : 20))
done
