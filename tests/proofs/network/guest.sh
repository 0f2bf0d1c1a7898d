#!/bin/bash
# The first process of a guest: mounts what it needs over the host's root, which it has read-only,
# then runs each line that comes on the console. The kernel's command line has its parameters:
#   guest=NAME        the guest's host name
#   addresses=LIST    the address of each network device, separated by commas
#   binaries=DIR      the host's directory with the program under test, here /mnt/bin
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

# The server: exports /mnt/disk/share, which has the directories of one service. After a power loss
# (`again`), clients have the grace period, the shortest there is, to reclaim their locks.
serve() {
    modprobe -d /mnt nfsd
    mount -t nfsd nfsd /proc/fs/nfsd
    mount /dev/ubda /mnt/disk
    mkdir -p /mnt/disk/nfs/v4recovery /mnt/disk/share/{in,out,stage,archive}
    # What a server remembers of its clients outlives a power loss.
    mount --bind /mnt/disk/nfs /var/lib/nfs
    touch /var/lib/nfs/etab
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    exportfs -o rw,no_root_squash,sync,no_subtree_check,fsid=0 10.0.0.0/16:/mnt/disk/share
    rpc.mountd -N 2 -N 3
    rpc.nfsd -N 3 4 || return
    [ "$1" = again ] || echo Y >/proc/fs/nfsd/v4_end_grace
}

# A client: mounts the share, and has a configuration for it.
join() {
    modprobe -d /mnt nfsv4
    mkdir -p /tmp/work
    mount -t nfs4 -o vers=4.2 "$1:/" /mnt/nfs || return
    printf '%s\n' 'state_dir = "state"' 'http = "off"' '[[pipeline]]' 'input = "/mnt/nfs/in"' \
        'output = "/mnt/nfs/out"' 'backoff = "100ms"' >/tmp/work/tidemill.toml
}

# A producer: this many files, each by a rename into the input. What it made is in /tmp/made: a line
# for each file, with the name of its output and the hash of its content.
produce() {
    local number content
    for number in $(seq "$1" "$2"); do
        content=$(seq 1 $((number * 300)))
        printf '%s\n' "$content" >/mnt/nfs/stage/f
        printf '%s %s\n' "f$number.log.zst" "$(printf '%s\n' "$content" | sha256sum | cut -c1-64)" >>/tmp/made
        mv /mnt/nfs/stage/f "/mnt/nfs/in/f$number.log"
    done
}

# The outputs: a line for each, as in /tmp/made. One that is not whole has no hash.
outputs() {
    local path
    # A directory that is opened is looked up at the server.
    for path in $(find /mnt/nfs/out -name '*.zst' | sort); do
        printf '%s %s\n' "${path##*/}" "$(zstd -qdc "$path" 2>/dev/null | { sha256sum; [ "${PIPESTATUS[0]}" = 0 ]; } | cut -c1-64)"
    done
}

# A consumer that looks all the time, until there is /tmp/enough: what it ever saw is in /tmp/seen.
consume() {
    until [ -e /tmp/enough ]; do outputs; done >/tmp/looks
    sort -u /tmp/looks >/tmp/seen
    touch /tmp/consumed
}

# The service, in the background: its log, its process and its exit code are in /tmp/work.
start() {
    cd /tmp/work || return
    rm -f code
    (
        /mnt/bin/tidemill run --config tidemill.toml "$@" >>log 2>&1 &
        echo $! >pid
        wait $!
        echo $? >code
    ) &
}

# What is there, processed; its log and its exit code.
once() {
    cd /tmp/work && timeout 50 /mnt/bin/tidemill run --config tidemill.toml --once "$@"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mount -t tmpfs tmpfs /var/lib/nfs
for parameter in $(</proc/cmdline); do
    case $parameter in guest=* | addresses=* | binaries=*) declare "$parameter" ;; esac
done
mkdir -p /mnt/lib/modules /mnt/nfs /mnt/disk /mnt/bin
mount --bind /usr/lib/uml/modules /mnt/lib/modules
printf '#!/bin/sh\nexec modprobe -d /mnt "$@"\n' >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
# NFS knows its clients by their names.
hostname "${guest:?}"
ip link set lo up
device=0
addresses=${addresses:?}
for address in ${addresses//,/ }; do
    ip address add "$address/24" dev "vec$device"
    ip link set "vec$device" up
    device=$((device + 1))
done
mount -t hostfs -o "${binaries:?}" none /mnt/bin

stty raw -echo
printf '\n:up\n'
# What a command writes goes to the console, then its exit code on a line of its own.
while IFS= read -r line; do
    (eval "$line") </dev/null 2>&1
    printf '\n:end %s\n' "$?"
done
# The test is gone: so is the guest.
echo o >/proc/sysrq-trigger
