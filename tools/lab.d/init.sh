#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# PID 1 of the lab until the root is mounted: the host's tree over 9p, read-only, under a throwaway overlay.
# Ends by becoming agent.py. If it fails, PID 1 ends, the kernel panics, QEMU exits, and the console's tail is shown.
set -e
export PATH=/bin

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

while read -r module; do insmod "/modules/$module"; done </modules/early
# Goes on in this root while the other one is set up and the agent starts, which waits for it at descriptor 9.
mkfifo /loaded
exec 9<>/loaded
(
  while read -r module; do insmod "/modules/$module" || echo "lab: module $module did not load"; done </modules/late
  echo >&9
) &

mount -t 9p -o trans=virtio,version=9p2000.L,ro,noatime,msize=512000,cache=loose hostroot /host
mount -t tmpfs -o mode=755,size=80% upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/host,upperdir=/upper/data,workdir=/upper/work overlay /root

cd /root
mkdir -p dev proc sys run tmp
mount --move /dev dev
mount --move /proc proc
mount --move /sys sys
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir -p dev/pts dev/shm run/lab/host run/lab/agent run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t securityfs security sys/kernel/security
ln -sf /proc/self/fd dev/fd
ln -sf /proc/self/fd/0 dev/stdin
ln -sf /proc/self/fd/1 dev/stdout
ln -sf /proc/self/fd/2 dev/stderr
echo lab >proc/sys/kernel/hostname
ip link set lo up
cp /agent/agent.py /agent/wire.py run/lab/agent/
mount --move /host run/lab/host
mount --move . /
exec chroot . /usr/bin/python3 -BES /run/lab/agent/agent.py
