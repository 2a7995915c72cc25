# shellcheck shell=sh disable=SC2154
# ci/stage.sh report: the reports of this build's gates.

# One run's report. Of a gate that was killed there is a journal, and no files yet.
write_report() {
    mkdir -p -- "$2" || fail "$2 can't be made: check whether the workspace is read-only or the disk is full"
    for format in junit:junit.xml md:summary.md github:annotations.txt pytest-benchmark:benchmark.json html:index.html; do
        "$VENV/bin/harness" show "$1" --format "${format%%:*}" > "$2/.new" < /dev/null && mv -- "$2/.new" "$2/${format#*:}" \
            || { rm -f -- "$2/.new"; fail "'harness show $1 --format ${format%%:*}' failed; its message is above"; }
    done
    # The page's style sheet and charts.
    [ ! -d "$1/report" ] || cp -R -- "$1/report/." "$2/"
    for each in run.json journal.jsonl samples.parquet; do
        [ ! -f "$1/$each" ] || cp -- "$1/$each" "$2/"
    done
}

report() {
    TROUBLE='there is no whole report'
    clear_reports
    mkdir -p -- "$REPORTS" || fail "$REPORTS can't be made: check whether the workspace is read-only or the disk is full"
    if ! in_this_build; then
        say 'no gate began in this build, so there is no report'
        return 0
    fi
    set --
    number=1
    while [ -e "$STATE/gates/$number" ]; do
        run=$(cat "$STATE/gates/$number/run" 2> /dev/null) || run=
        if [ -f "$run/run.json" ]; then set -- "$@" "$run"; else say "gate $number of this build made no run: it did not begin; its output says why"; fi
        number=$((number + 1))
    done
    [ "$number" -gt 1 ] || say 'no gate began in this build, so there is no report'
    if [ $# -eq 1 ]; then
        write_report "$1" "$REPORTS"
    elif [ $# -gt 1 ]; then
        # A folder for each, and at the top what a server shows of all.
        number=1
        for run; do
            name=$number-$(basename -- "$(dirname -- "$run")" | tr -c 'A-Za-z0-9._\n-' _)
            write_report "$run" "$REPORTS/$name"
            cat -- "$REPORTS/$name/summary.md" >> "$REPORTS/summary.md"
            cat -- "$REPORTS/$name/annotations.txt" >> "$REPORTS/annotations.txt"
            printf '<p><a href="%s/index.html">%s</a></p>\n' "$name" "$name" >> "$REPORTS/index.html"
            number=$((number + 1))
        done
    fi
    # Where nothing tells builds apart, this report must not stand for the next one.
    [ "$BUILD" != "$NO_BUILD" ] || clear_away "$STATE" || fail "$STATE can't be removed: remove it by hand"
}
