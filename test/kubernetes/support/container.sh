#!/bin/sh
# container.sh ROOT USER DIRECTORY [SOURCE:TARGET:ro|rw …] -- COMMAND …: becomes COMMAND in a root of its own, made on the empty folder ROOT inside this mount namespace:
# the machine's /usr, /proc and /dev, an otherwise empty read-only system, and each SOURCE at its TARGET. USER is UID:GID:GROUPS, or `-` to stay who one is.
set -eu
root=$1 user=$2 directory=$3
shift 3
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/usr" "$root/proc" "$root/dev" "$root/etc"
mount --rbind /usr "$root/usr"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/usr/local"
for name in bin sbin lib lib64; do
  [ -L "/$name" ] && ln -s "usr/$name" "$root/$name"
done
while [ "$1" != -- ]; do
  source=${1%%:*} target=${1#*:} mode=${1##*:}
  target=$root${target%:*}
  if [ -d "$source" ]; then mkdir -p "$target"; else mkdir -p "$(dirname "$target")" && : >"$target"; fi
  mount --bind "$source" "$target"
  [ "$mode" = rw ] || mount -o remount,bind,ro "$target"
  shift
done
shift
mount -o remount,ro "$root"
if [ "$user" = - ]; then
  exec chroot "$root" setpriv --pdeathsig KILL --no-new-privs -- env -C "$directory" "$@"
fi
groups=${user##*:} ids=${user%:*}
exec chroot "$root" setpriv --pdeathsig KILL --no-new-privs --reuid "${ids%:*}" --regid "${ids#*:}" --groups "$groups" --bounding-set=-all --inh-caps=-all -- \
  env -C "$directory" "$@"
