# Functions of the set-up scripts, which read this file: how system packages are installed, where this user may.
# shellcheck shell=sh

if [ "$(id -u)" = 0 ]; then as_root=''; elif sudo -n true 2>/dev/null; then as_root='sudo -n'; else as_root=none; fi

# install_packages PURPOSE PACKAGE...
install_packages() {
    purpose=$1
    shift
    if [ "$as_root" = none ] || ! command -v apt-get >/dev/null; then
        echo "tests: install $* to $purpose" >&2
        return 1
    fi
    echo "installing $* to $purpose"
    # The packages must not start a server of their own: for as long as they are installed, a policy says so.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
        $as_root chmod 755 $policy
        trap '$as_root rm -f $policy' EXIT
    fi
    $as_root apt-get update -q >/dev/null
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >/dev/null
}
