#!/bin/sh
# Sets up what the tests on virtual boards need beside the virtual environment, where this user may: the emulator, and the boards'
# image. Does nothing where all is there. The image is kept outside the repository, and built anew when its recipe changed.
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh

# The image is made of these, and the emulator is one of them.
missing=$(.venv/bin/python -c 'from harness.devices.boards import prerequisites as p; print(*p.packages_to_build())')
# shellcheck disable=SC2086 - several words
[ -z "$missing" ] || install_packages 'build and start virtual boards' $missing

if .venv/bin/harness board build; then exit 0; fi
# Not root, and no image yet: it is built for this user by one who may.
[ -n "$as_root" ] && [ "$as_root" != none ]
$as_root "$PWD/.venv/bin/harness" board build
