# A host of its own on this machine: what `unshare` runs, as root, as the first process of new namespaces.
#
#   sh host.sh NAME FOLDER CHECKOUT PROGRAM VENV BASE
#
# NAME: what the host is called. FOLDER: its disk, at the same path here and there; with home, tmp and nothing in it.
# CHECKOUT: where this program lies, and PROGRAM what is to lie there: the same, or an empty folder. VENV, BASE: the
# Python that tests run with, and the one that it was made from. The host can read the machine's other files, and write none.
#
# Prints "ready", and ends with its standard input. The kernel then kills whatever else runs on the host.
set -eu
name=$1 folder=$2 checkout=$3 program=$4 venv=$5 base=$6

hostname "$name"

case $venv in "$checkout"/*) mkdir -p "$program${venv#"$checkout"}" ;; esac # where it is to be seen again

# Any of these may lie in a folder that is about to be hidden.
mount -t tmpfs -o size=1m tmpfs /mnt
mkdir /mnt/folder /mnt/program /mnt/venv /mnt/base
mount --rbind "$folder" /mnt/folder
mount --rbind "$program" /mnt/program
mount --rbind "$venv" /mnt/venv
mount --rbind "$base" /mnt/base

while read -r _ point _; do
    case $point in
        /proc | /proc/* | /sys | /sys/* | /dev | /dev/* | /mnt/folder) ;;
        *) mount -o remount,bind,ro "$point" 2>/dev/null || true ;; # it may be a mount that another one hides
    esac
done </proc/self/mounts

mount -t tmpfs -o size=1g tmpfs /dev/shm
mount --bind /mnt/folder/tmp /tmp
mkdir -p "$folder" "$checkout" "$base" "$venv" 2>/dev/null || true # those of /tmp
mount --rbind /mnt/folder "$folder"
mount --rbind /mnt/base "$base"
mount --rbind /mnt/program "$checkout"
mount --rbind /mnt/venv "$venv"

ip link set lo up
echo ready
cat >/dev/null # not exec: this shell sees to the orphans
