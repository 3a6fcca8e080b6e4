#!/usr/bin/env bash
# Boots another kernel under QEMU's emulation and runs a few sandboxes on it: for what the host at hand does not have (older
# Landlock, cgroup v2 with its controllers). Slow: minutes. Skipped, with status 0, where something that it needs is missing.
#
# usage: tests/qemu.sh KERNEL [LAUNCHER]     KERNEL is a bzImage with initramfs, a serial console and cgroups built in
set -euo pipefail
cd "$(dirname "$0")/.."
kernel=${1:?usage: tests/qemu.sh KERNEL [LAUNCHER]}
launcher=${2:-target/release/drupe}
for tool in qemu-system-x86_64 cpio busybox gcc; do
	command -v "$tool" >/dev/null || { echo "skipped: $tool"; exit 0; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{bin,dev,proc,sys,tmp,lib64,root,home,run}
chmod 1777 "$dir/tmp"
cp "$(command -v busybox)" "$dir/bin/busybox"
cp "$launcher" "$dir/bin/drupe"
gcc -O1 -static -w -o "$dir/bin/hog" tests/guest/hog.c
for program in sh ls cat grep echo mount mkdir sleep true id head; do ln -s busybox "$dir/bin/$program"; done
# What the launcher is linked against.
libraries=$(ldd "$launcher" 2>/dev/null | grep -o '/[^ ]*' || true)
for library in $libraries; do
	mkdir -p "$dir$(dirname "$library")"
	cp -L "$library" "$dir$library"
done
cat >"$dir/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/shm
mount -t cgroup2 cg /sys/fs/cgroup
for c in memory pids cpu; do echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done
try() { echo "--- $*"; "$@" 2>&1; echo "status $?"; }
try drupe doctor
try drupe run -- sh -c 'echo inside $$; (exit 3); echo $?'
# The sandbox's own accounting is what programs notice, the group is the wall behind it.
drupe run --memory 64M --pids 20 --cpus 1 -- sleep 3 &
sleep 1.5
for f in memory.max pids.max cpu.max; do echo "$f $(cat /sys/fs/cgroup/drupe-*/$f)"; done
wait
try drupe run --memory 64M -- hog take 200 wait
try drupe run --memory 64M -- hog take 30 log
i=0
while ls -d /sys/fs/cgroup/drupe-* >/dev/null 2>&1 && [ $i -lt 10 ]; do i=$((i + 1)); sleep 1; done
echo "left: $(ls -d /sys/fs/cgroup/drupe-* 2>/dev/null)"
cat /sys/fs/cgroup/drupe-*/cgroup.procs 2>/dev/null
echo finished
busybox poweroff -f
INIT
chmod 755 "$dir/init"
(cd "$dir" && find . | cpio -o -H newc --quiet) >"$dir.cpio"
trap 'rm -rf "$dir" "$dir.cpio"' EXIT
timeout -k 5 "${QEMU_LIMIT:-600}" qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 2 -display none -no-reboot \
	-serial stdio -monitor none -kernel "$kernel" -initrd "$dir.cpio" \
	-append "console=ttyS0 panic=-1 quiet lsm=landlock,yama" </dev/null | tr -d '\r' | tee "$dir.log"
ok=0
expect() { grep -qE "$1" "$dir.log" || { echo "missing: $1"; ok=1; }; }
expect '^inside 1$'
expect '^memory.max 79691776$'
expect '^pids.max 84$'
expect '^cpu.max 100000 100000$'
expect '^status 137$'
expect '^took 30$'
expect '^left: $'
expect '^finished'
rm -f "$dir.log"
exit $ok
