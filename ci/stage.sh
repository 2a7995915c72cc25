#!/bin/sh
# The shell steps of a gate's stage, the same for Jenkins, GitHub Actions and a developer's terminal. ci/README.md tells how to use it.
#
#   ci/stage.sh setup                      the tool, in .harness-venv
#   ci/stage.sh check STUDY BASELINE [...] the gate; further words go to 'harness check'
#   ci/stage.sh report                     JUnit, Markdown, the page: into reports/, whatever came of the gate
#
# 'check' ends with the gate's own exit code: 0 passed, 1 regressed, 2 wrong usage, 3 something was not measured, 4 not known closely enough,
# 75 a device is busy.
set -eu

VENV=${HARNESS_VENV:-.harness-venv}
REPORTS=${HARNESS_REPORTS:-reports}
RESULTS=${HARNESS_RESULTS:-results}
# What to install: a version from an index, a wheel, or a checkout.
PACKAGE=${HARNESS_PACKAGE:-quant-harness}

setup() {
    [ -x "$VENV/bin/harness" ] && return
    "${PYTHON:-python3}" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$PACKAGE"
}

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

check() {
    [ $# -ge 2 ] || usage
    study=$1 baseline=$2
    shift 2
    # A report of the build before must not stand for this one: 'report' takes no run that is older than this.
    rm -rf "$REPORTS"
    mkdir -p "$REPORTS" "$RESULTS"
    ls -d "$RESULTS"/*/*/ > "$RESULTS/.before" 2> /dev/null || true
    # exec: a signal that the server sends to this shell reaches the harness, which stops the job on the board before it ends.
    HARNESS_RESULTS=$RESULTS exec "$VENV/bin/harness" check "$study" --baseline "$baseline" "$@"
}

report() {
    mkdir -p "$REPORTS" "$RESULTS"
    touch "$RESULTS/.before"
    # The folder that 'check' made; '|| true': when there is none.
    run=$(ls -d "$RESULTS"/*/*/ 2> /dev/null | grep -vxF -f "$RESULTS/.before" | tail -n 1 || true)
    if [ -z "$run" ] || [ ! -f "$run/run.json" ]; then
        echo "ci/stage.sh: this check made no run in $RESULTS: the gate did not begin" >&2
        return 0
    fi
    # Of a gate that was killed there is a journal, and no files yet.
    for format in junit:junit.xml md:summary.md github:annotations.txt pytest-benchmark:benchmark.json html:index.html; do
        "$VENV/bin/harness" show "$run" --format "${format%%:*}" > "$REPORTS/${format#*:}"
    done
    # The page's style sheet and charts.
    [ -d "$run/report" ] && cp -R "$run/report/." "$REPORTS/"
    cp "$run/run.json" "$run/journal.jsonl" "$REPORTS/"
    [ -f "$run/samples.parquet" ] && cp "$run/samples.parquet" "$REPORTS/"
    return 0
}

case ${1:-} in
    setup | check | report) "$@" ;;
    *) usage ;;
esac
