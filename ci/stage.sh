#!/bin/sh
# The shell steps of a gate, the same for Jenkins, GitHub Actions and a developer's terminal. ci/README.md says how to use them.
#
#   ci/stage.sh setup                        the first step of a build: installs HARNESS_PACKAGE into .harness-venv, or keeps what is there
#   ci/stage.sh gate STUDY BASELINE [...]    loads BOARD_KEY into an ssh-agent that ends with the gate, then does what 'check' does
#   ci/stage.sh check STUDY BASELINE [...]   'harness check' with the keys that are there; further words go to it
#   ci/stage.sh report                       the reports of this build's gates, into reports/; those of other builds are removed
#
# 'gate' and 'check' end with 0 passed, 1 regressed, 2 wrong usage, 3 something was not measured, 4 not known precisely enough, 69 the gate did not
# begin, 70 the tool crashed, 75 a device is busy, 130 interrupted, and with nothing else. 0 and 1 count only if the run's own record says the same.
set -eu

# Whoever calls this may have closed a stream, or gone away: neither changes an exit code.
trap '' PIPE
(: <&0) 2> /dev/null || exec < /dev/null
(: >&1) 2> /dev/null || exec > /dev/null
(: >&2) || exec 2> /dev/null

NAME=onnx-quant-harness
VENV=${HARNESS_VENV:-.harness-venv}
REPORTS=${HARNESS_REPORTS:-reports}
RESULTS=${HARNESS_RESULTS:-results}
# Which build this is, and the gates that it began.
STATE=${HARNESS_STATE:-.harness-gate}
STAMP=$VENV/.made-by-stage.sh
# What tells one build from another; without any of these, a gate's report is made once.
BUILD="${HARNESS_BUILD:-}|${BUILD_TAG:-}|${BUILD_URL:-}|${GITHUB_RUN_ID:-}|${GITHUB_RUN_ATTEMPT:-}|${GITHUB_JOB:-}|${RUNNER_TRACKING_ID:-}|${CI_JOB_ID:-}"
NO_BUILD='|||||||'

TROUBLE='the gate did not begin'
verdict= gate= agent= private= reason=

say() { printf 'ci/stage.sh: %s\n' "$*" >&2 || :; }

# End with 69: what was to be done could not begin.
fail() {
    say "$TROUBLE: $*"
    verdict=69
    exit 69
}

# Only what was decided on is an exit code: a command that fails where nobody foresaw it gives 69, never its own code.
finish() {
    code=$?
    trap '' TERM INT HUP
    [ -z "$agent" ] || kill "$agent" 2> /dev/null || :
    [ -z "$private" ] || rm -rf "$private" || :
    if [ -z "$verdict" ]; then
        say "$TROUBLE: a command in ci/stage.sh failed with exit code $code; its message is above"
        verdict=69
    fi
    exit "$verdict"
}
trap finish EXIT

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2 || :
    verdict=2
    exit 2
}

last_line() { printf '%s\n' "$1" | sed '/^[[:space:]]*$/d' | tail -n 1; }

# Remove a file or folder. What can't be removed, such as files that a container's root left, is moved aside.
clear_away() {
    rm -rf -- "$1".stage-old.* 2> /dev/null || :
    rm -rf -- "$1" 2> /dev/null || :
    { [ -e "$1" ] || [ -L "$1" ]; } || return 0
    [ -n "$(ls -A -- "$1" 2> /dev/null || echo unknown)" ] || return 0
    aside=$(mktemp -d -- "$1.stage-old.XXXXXX" 2> /dev/null) && rmdir -- "$aside" && mv -- "$1" "$aside" 2> /dev/null || return 1
    say "$1 has files of another account that can't be removed; it was moved to $aside: remove that as their owner"
}

clear_reports() {
    # Never the workspace itself, and nothing that the workspace or the results are in.
    while [ "${REPORTS%/}" != "$REPORTS" ]; do REPORTS=${REPORTS%/}; done
    [ -n "$REPORTS" ] || fail 'HARNESS_REPORTS is the root folder: set it to a folder that holds only reports'
    if [ -d "$REPORTS" ] && [ ! -L "$REPORTS" ]; then
        for inside in . "$RESULTS" "$VENV"; do
            place=$(cd "$inside" 2> /dev/null && pwd -P) || continue
            case $place/ in
                "$(cd "$REPORTS" && pwd -P)"/*) fail "HARNESS_REPORTS=$REPORTS would be emptied, and $inside is in it: set it to a folder that holds only reports" ;;
            esac
        done
    fi
    clear_away "$REPORTS" || fail "$REPORTS holds an older report that can be neither removed nor moved: remove it by hand"
}

# A new build has no gates and no report yet, whatever comes of its steps.
begin_build() {
    clear_reports
    clear_away "$STATE" || fail "$STATE can't be removed: remove it by hand"
    { mkdir -p -- "$STATE/gates" && printf '%s\n' "$BUILD" > "$STATE/build"; } 2> /dev/null \
        || fail "$STATE can't be written: check whether the workspace is read-only or the disk is full"
}

in_this_build() { [ -f "$STATE/build" ] && [ "$(cat "$STATE/build")" = "$BUILD" ]; }

# The tool keeps a cache and the models of baselines in the home folder. Without one they are kept in the workspace.
find_home() {
    [ -z "${QUANT_HARNESS_HOME:-}" ] || [ -z "${HOME:-}" ] || return 0
    if [ -z "${HOME:-}" ]; then
        HOME=$(getent passwd "$(id -u)" 2> /dev/null | cut -d: -f6) || HOME=
    fi
    if [ -z "$HOME" ] || { [ -z "${QUANT_HARNESS_HOME:-}" ] && ! (umask 077 && mkdir -p -- "$HOME/.cache/quant-harness" && [ -w "$HOME/.cache/quant-harness" ]) 2> /dev/null; }; then
        : "${QUANT_HARNESS_HOME:=$PWD/.harness-home}"
        export QUANT_HARNESS_HOME
        [ -n "$HOME" ] || HOME=$QUANT_HARNESS_HOME
        (umask 077 && mkdir -p -- "$QUANT_HARNESS_HOME") 2> /dev/null || fail "$QUANT_HARNESS_HOME can't be made: set QUANT_HARNESS_HOME to a folder that can be written"
        say "this account has no writable home folder: the cache and the models of baselines are kept in $QUANT_HARNESS_HOME"
    fi
    export HOME
}

# Whether the command starts and is ours; says why not in $reason. 'quant-harness' on PyPI, and others, bring a command of the same name.
starts() {
    [ -e "$VENV/bin/harness" ] || { reason="there is no $VENV/bin/harness"; return 1; }
    reason=$("$VENV/bin/harness" --version 2>&1 < /dev/null) || { reason="$VENV/bin/harness does not start (exit code $?): $(last_line "$reason")"; return 1; }
    case $reason in
        *"$NAME "*) ;;
        *) reason="$VENV/bin/harness belongs to another package than $NAME; it says: $(last_line "$reason")"; return 1 ;;
    esac
}

# The server aborts the build: the tool ends the job on the board first.
stop() {
    if [ -n "$gate" ]; then
        kill -TERM "$gate" 2> /dev/null || :
    else
        verdict=130
        exit 130
    fi
}

check() {
    [ $# -ge 2 ] || usage
    study=$1 baseline=$2
    shift 2
    trap stop TERM INT HUP
    if [ "$BUILD" != "$NO_BUILD" ] && in_this_build; then clear_reports; else begin_build; fi
    number=1
    while [ -e "$STATE/gates/$number" ]; do number=$((number + 1)); done
    mark=$STATE/gates/$number
    mkdir -p -- "$mark" || fail "$mark can't be made: check whether the workspace is read-only or the disk is full"
    starts || fail "$reason; 'ci/stage.sh setup' installs it"
    { mkdir -p -- "$RESULTS" && echo > "$RESULTS/.stage" && rm -f -- "$RESULTS/.stage"; } 2> /dev/null \
        || fail "HARNESS_RESULTS=$RESULTS can't be written: check whether it is read-only or the disk is full"
    find_home
    if [ -n "$with_key" ]; then
        # The tool and the agent need no copy of the key, and the trace that 'sh -x' writes must not show it.
        case $- in *x*) trace=-x ;; *) trace=+x ;; esac
        { set +x; } 2> /dev/null
        board_key=$BOARD_KEY
        unset BOARD_KEY
        start_agent
        load_key
        board_key=
        set "$trace"
    fi
    HARNESS_RUN_FILE=$mark/run HARNESS_RESULTS=$RESULTS "$VENV/bin/harness" check "$study" --baseline "$baseline" "$@" < /dev/null &
    gate=$!
    # A signal ends the wait, not the gate.
    while :; do
        code=0
        wait "$gate" || code=$?
        kill -0 "$gate" 2> /dev/null || break
    done
    TROUBLE='the gate has no verdict'
    run=$(cat "$mark/run" 2> /dev/null) || run=
    case $code in
        0 | 1 | 126 | 127)
            # Shells and Python give these for much else.
            if [ ! -f "$run/run.json" ]; then
                TROUBLE='the gate did not begin'
                fail "'harness check' ended with exit code $code and made no run; its message is above"
            fi
            recorded=$("$VENV/bin/harness" show "$run" --json < /dev/null | "$VENV/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["exit"])') || recorded=unknown
            if [ "$recorded" != "$code" ]; then
                say "$TROUBLE: 'harness check' ended with exit code $code, but the record of its run $run has exit code $recorded: report this as a fault of the tool, with that folder"
                code=70
            fi
            ;;
        2 | 3 | 4 | 69 | 70 | 75 | 130) ;;
        *)
            say "$TROUBLE: 'harness check' ended with exit code $code: $([ "$code" -gt 128 ] && echo "killed by signal $((code - 128)); check that the machine has enough memory" || echo 'its message is above')"
            code=70
            ;;
    esac
    verdict=$code
    exit "$code"
}

here=$(dirname -- "$0")
with_key=
case ${1:-} in
    setup)
        . "$here/setup.sh"
        setup
        ;;
    check | gate)
        . "$here/key.sh"
        [ "$1" = check ] || with_key=${BOARD_KEY+yes}
        shift
        check "$@"
        ;;
    report)
        . "$here/report.sh"
        report
        ;;
    *) usage ;;
esac
verdict=0
