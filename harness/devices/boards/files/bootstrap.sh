#!/bin/sh
# Makes the guest's root folder. Runs as root in mount and process namespaces of its own (build.py), so that nothing it mounts or starts
# outlives it, however it ends.
#
# bootstrap.sh ROOT SUITE MIRROR PACKAGES DEBS FILES [BINFMT-NAME INTERPRETER]
set -eu
root=$1 suite=$2 mirror=$3 packages=$4 debs=$5 files=$6 binfmt=${7:-} interpreter=${8:-}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

[ -z "$binfmt" ] || sh "$files/binfmt.sh" add "$binfmt" "$interpreter"

debootstrap --arch=arm64 --variant=minbase --include="$packages" --cache-dir="$debs" "$suite" "$root" "$mirror"

# '*' is no password, but unlike '!' it does not lock the account for sshd.
chroot "$root" useradd --create-home --shell /bin/bash --uid 1000 --password '*' board
install -m 755 "$files/guest-init" "$root/sbin/board-init"
install -m 644 "$files/sshd_config" "$root/etc/ssh/sshd_config"
printf 'virtual ARM board of quant-harness: its latencies mean nothing\n' >"$root/etc/motd"

# Each board gets keys of its own; and what no measurement needs costs space only.
rm -f "$root"/etc/ssh/ssh_host_*_key "$root"/etc/ssh/ssh_host_*_key.pub "$root/etc/resolv.conf"
rm -rf "$root"/var/cache/apt/* "$root"/var/log/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
