#!/bin/sh
# Sets up what the SSH tests need beside the virtual environment, where this user may: OpenSSH's server; for root also an ordinary
# account to log in as, with a Python that it can reach. Does nothing where all is there.
set -eu
cd "$(dirname "$0")/.."
account=harness-test
export ORT_DISABLE_TELEMETRY=1

if [ "$(id -u)" = 0 ]; then as_root=''; elif sudo -n true 2>/dev/null; then as_root='sudo -n'; else as_root=none; fi

install_packages() {
    if [ "$as_root" = none ] || ! command -v apt-get >/dev/null; then
        echo "tests: install $* to run the SSH tests; without it they are skipped" >&2
        return 1
    fi
    # The package must not start a server of its own: for as long as it is installed, a policy says so.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
        $as_root chmod 755 $policy
        trap '$as_root rm -f $policy' EXIT
    fi
    $as_root apt-get update -q >/dev/null
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >/dev/null
}

[ -x /usr/sbin/sshd ] || command -v sshd >/dev/null || install_packages openssh-server openssh-client || exit 0

# An ordinary user is the account that the tests log in as. Root makes one.
[ "$(id -u)" = 0 ] || exit 0
id $account >/dev/null 2>&1 || useradd --create-home --shell /bin/sh $account
home=$(getent passwd $account | cut -d: -f6)
reaches() { (cd / && runuser -u $account -- "$1" -c 'import onnxruntime' 2>/dev/null); }
reaches "$PWD/.venv/bin/python" && exit 0
reaches "$home/venv/bin/python" && exit 0
python3=/usr/bin/python3
[ -x $python3 ] && $python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || install_packages python3 python3-venv
versions=$(.venv/bin/python -c 'from importlib.metadata import version as v; print(*(f"{n}=={v(n)}" for n in ("onnxruntime", "numpy")))')
rm -rf "$home/venv"
$python3 -m venv "$home/venv"
# shellcheck disable=SC2086 - two words
"$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check $versions
reaches "$home/venv/bin/python"
