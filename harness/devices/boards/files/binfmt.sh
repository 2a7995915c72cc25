#!/bin/sh
# binfmt.sh add NAME INTERPRETER | remove NAME: lets this machine's kernel run aarch64 programs, also in a chroot (flag F), or no longer.
# Wants a mount namespace of its own.
set -eu
folder=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc binfmt_misc $folder
[ ! -e "$folder/$2" ] || echo -1 >"$folder/$2"
[ "$1" = add ] || exit 0
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":$2:M::$magic:$mask:$3:F" >$folder/register
