# shellcheck shell=sh disable=SC2034,SC2154
# ci/stage.sh setup: the environment that the tool is in, made anew if what it was made from has changed, or if it is broken.

# Whether each module of the tool can be imported, and with it all that it depends on.
is_whole() {
    starts || return 1
    reason=$("$VENV/bin/python" -P -c '
import importlib, pkgutil, harness
for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if not module.name.startswith(("harness.pytest_plugin", "harness._shipped")):
        importlib.import_module(module.name)
' 2>&1 < /dev/null) || { reason="$VENV is broken: $(last_line "$reason")"; return 1; }
}

# What an environment is made from: it is made anew if one line of this changes.
describe() {
    "${PYTHON:-python3}" -I - "$HARNESS_PACKAGE" "${HARNESS_CONSTRAINTS:-}" << 'PYTHON_CODE'
import hashlib, os, sys

if sys.version_info < (3, 11):
    sys.exit("Python 3.11 or newer is needed, and %s is %s: set PYTHON to another one" % (sys.executable, sys.version.split()[0]))


def digest(path):
    whole = hashlib.sha256()
    tops = [path]
    if os.path.isdir(path):
        parts = [os.path.join(path, name) for name in ("pyproject.toml", "harness", "runners", "studies")]
        tops = parts if os.path.isdir(parts[1]) else [path]
    for top in tops:
        files = [top]
        if os.path.isdir(top):
            files = []
            for folder, inner, names in os.walk(top):
                inner[:] = sorted(name for name in inner if name != "__pycache__" and not name.startswith("."))
                files += [os.path.join(folder, name) for name in sorted(names)]
        for name in files:
            if os.path.isfile(name):
                whole.update(os.path.relpath(name, path).encode("utf-8", "surrogateescape") + b"\0")
                with open(name, "rb") as file:
                    whole.update(hashlib.sha256(file.read()).digest())
    return whole.hexdigest()


package, constraints = sys.argv[1:]
place = package.rpartition(" @ ")[2].strip()
place = place[7:] if place.startswith("file://") else place
bare = place if os.path.exists(place) else place.partition("[")[0]
print("package: %s %s" % (package.replace("\n", " "), digest(bare) if os.path.exists(bare) else ""))
print("constraints: %s" % (digest(constraints) if constraints else "none"))
print("Python: %s %s" % (os.path.realpath(sys.executable), sys.version.replace("\n", " ")))
PYTHON_CODE
}

# What changed between two descriptions: the words before the first ':' of a line that differs.
changed() {
    printf '%s\n' "$2" | while IFS= read -r line; do
        printf '%s\n' "$1" | grep -qxF -- "$line" || printf '%s\n' "${line%%:*}"
    done | head -n 1
}

setup() {
    begin_build
    find_home
    if [ -z "${HARNESS_PACKAGE:-}" ]; then
        [ -e "$VENV" ] && [ ! -e "$STAMP" ] \
            || fail "HARNESS_PACKAGE is not set. Set it to what is to be installed: a wheel, a checkout, or $NAME==VERSION. There is no default"
        is_whole || fail "$reason; nothing was installed, because HARNESS_PACKAGE is not set: set it to a wheel, a checkout, or $NAME==VERSION"
        say "setup: $VENV is used as it is: HARNESS_PACKAGE is not set, and ci/stage.sh did not make it"
        return
    fi
    case $HARNESS_PACKAGE in
        -*) fail "HARNESS_PACKAGE=$HARNESS_PACKAGE is an option of pip: give a wheel, a checkout, or $NAME==VERSION" ;;
        */ | *.whl | ./* | /* | ../*) [ -e "$HARNESS_PACKAGE" ] || fail "HARNESS_PACKAGE=$HARNESS_PACKAGE does not exist: correct the path" ;;
    esac
    [ -z "${HARNESS_CONSTRAINTS:-}" ] || [ -r "$HARNESS_CONSTRAINTS" ] || fail "HARNESS_CONSTRAINTS=$HARNESS_CONSTRAINTS can't be read: correct the path"
    command -v "${PYTHON:-python3}" > /dev/null 2>&1 || fail "${PYTHON:-python3} was not found: install Python 3.11 or newer, or set PYTHON"
    wanted=$(describe 2>&1) || fail "${PYTHON:-python3}: $(last_line "$wanted")"
    made=$(cat "$STAMP" 2> /dev/null) || made=
    if [ ! -e "$VENV" ] && [ ! -L "$VENV" ]; then
        why='it did not exist'
    elif [ -z "$made" ]; then
        [ "$VENV" = .harness-venv ] || [ -z "$(ls -A -- "$VENV" 2> /dev/null)" ] \
            || fail "HARNESS_VENV=$VENV was not made by ci/stage.sh: remove it, name another folder, or unset HARNESS_PACKAGE to use it as it is"
        why='it has no record of what it was made from'
    elif [ "$made" = unfinished ]; then
        why='the last setup did not finish'
    elif [ "$made" != "$wanted" ]; then
        why="the $(changed "$made" "$wanted") changed"
    elif is_whole; then
        say "setup: kept $VENV, made from $HARNESS_PACKAGE"
        return
    else
        why=$reason
    fi
    clear_away "$VENV" || fail "$VENV can be neither removed nor moved: remove it by hand"
    { mkdir -p -- "$VENV" && echo unfinished > "$STAMP"; } 2> /dev/null || fail "$VENV can't be written: check whether the workspace is read-only or the disk is full"
    reason=$("${PYTHON:-python3}" -m venv "$VENV" 2>&1 < /dev/null) \
        || fail "'${PYTHON:-python3} -m venv' failed: $(last_line "$reason"); on Debian and Ubuntu, install python3-venv"
    set -- "$HARNESS_PACKAGE"
    if [ -n "${HARNESS_CONSTRAINTS:-}" ]; then
        # pip takes no hashes for some packages alone: the versions count.
        sed -e 's/[[:space:]]*--hash=[^[:space:]]*//g' -e 's/[[:space:]]*\\$//' -e '/^[[:space:]]*$/d' "$HARNESS_CONSTRAINTS" > "$VENV/constraints.txt"
        set -- -c "$VENV/constraints.txt" "$@"
    fi
    "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@" < /dev/null \
        || fail "pip could not install HARNESS_PACKAGE=$HARNESS_PACKAGE; its message is above"
    is_whole || fail "HARNESS_PACKAGE=$HARNESS_PACKAGE was installed but does not work: $reason; set HARNESS_PACKAGE to another version"
    { printf '%s\n' "$wanted" > "$STAMP.new" && mv -- "$STAMP.new" "$STAMP"; } || fail "$STAMP can't be written: check whether the disk is full"
    say "setup: made $VENV from $HARNESS_PACKAGE: $why"
}
