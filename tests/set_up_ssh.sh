#!/bin/sh
# Sets up what the SSH tests need beside the virtual environment, where this user may: OpenSSH's server, and Dropbear; for root also an ordinary
# account to log in as, with a Python that it can reach. Does nothing where all is there.
set -eu
cd "$(dirname "$0")/.."
account=harness-test
export ORT_DISABLE_TELEMETRY=1

. tests/packages.sh

[ -x /usr/sbin/sshd ] || command -v sshd >/dev/null || install_packages 'run the SSH tests, which are skipped without' openssh-server openssh-client || exit 0
command -v dropbear >/dev/null || [ -x /usr/sbin/dropbear ] || install_packages 'run the tests on Dropbear, the SSH server of small boards, which are skipped without' dropbear-bin || true

# Root's tests of names and addresses make a network of their own.
[ "$(id -u)" != 0 ] || command -v ip >/dev/null || install_packages 'run the tests on names and addresses, which are skipped without' iproute2 || true

# Shells that people log in with, beside sh and bash.
command -v zsh >/dev/null && command -v fish >/dev/null && command -v tcsh >/dev/null ||
    install_packages 'run the tests with accounts whose shell is zsh, fish or tcsh, which are skipped without' zsh fish tcsh || true

# An ordinary user is the account that the tests log in as. Root makes one, and others: a second user of the same board, and accounts whose shell
# is bash, refuses everybody, or is restricted.
[ "$(id -u)" = 0 ] || exit 0
make_account() { id "$1" >/dev/null 2>&1 || useradd --create-home --shell "$2" "$1"; }
make_account $account /bin/sh
make_account harness-other /bin/sh
make_account harness-bash /bin/bash
make_account harness-nologin /usr/sbin/nologin
make_account harness-rbash /bin/rbash
make_account harness-false /bin/false
# One that PAM lets nobody into any more.
make_account harness-expired /bin/sh
chage --expiredate 2020-01-01 harness-expired
for shell in zsh fish tcsh; do
    ! command -v $shell >/dev/null || make_account harness-$shell "$(command -v $shell)"
done
# The others run the Python that is made for the first.
chmod 755 "$(getent passwd $account | cut -d: -f6)"
home=$(getent passwd $account | cut -d: -f6)
reaches() { (cd / && runuser -u $account -- "$1" -c 'import onnxruntime' 2>/dev/null); }
reaches "$PWD/.venv/bin/python" && exit 0
reaches "$home/venv/bin/python" && exit 0
python3=/usr/bin/python3
[ -x $python3 ] && $python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || install_packages 'log in to an ordinary account' python3 python3-venv
versions=$(.venv/bin/python -c 'from importlib.metadata import version as v; print(*(f"{n}=={v(n)}" for n in ("onnxruntime", "numpy")))')
rm -rf "$home/venv"
$python3 -m venv "$home/venv"
# shellcheck disable=SC2086 - two words
"$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check $versions
reaches "$home/venv/bin/python"
