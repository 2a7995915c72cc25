# shellcheck shell=sh disable=SC2034,SC2154
# ci/stage.sh gate: an ssh-agent that ends with the gate, and the boards' key in it. Nothing here asks a question, and no key is written to a disk.

# An ssh-agent of this gate's own, in a private folder outside the workspace.
start_agent() {
    for tool in ssh-agent ssh-add; do
        command -v "$tool" > /dev/null 2>&1 || fail "$tool is not installed: install OpenSSH's client (openssh-client on Debian and Ubuntu)"
    done
    folder=${TMPDIR:-/tmp}
    [ ${#folder} -lt 70 ] || folder=/tmp # the address of a socket has at most 107 bytes
    private=$(mktemp -d -- "$folder/harness-gate.XXXXXX" 2> /dev/null) || fail "no folder can be made in $folder: set TMPDIR to one that can be written"
    # No key outlives a day, should nothing be left to end the agent.
    said=$(ssh-agent -s -t 86400 -a "$private/agent" 2>&1) || fail "ssh-agent does not start: $(last_line "$said")"
    agent=$(printf '%s\n' "$said" | sed -n 's/.*SSH_AGENT_PID=\([0-9]*\);.*/\1/p')
    [ -n "$agent" ] || fail "ssh-agent did not print its process id: $(last_line "$said")"
    SSH_AUTH_SOCK=$private/agent SSH_AGENT_PID=$agent
    export SSH_AUTH_SOCK SSH_AGENT_PID
}

# ssh-add, which must never wait for somebody to type a passphrase: no terminal, and a program to ask with that is not there.
add() {
    if command -v setsid > /dev/null 2>&1; then set -- setsid ssh-add -q "$@"; else set -- ssh-add -q "$@"; fi
    DISPLAY=none SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=/no/passphrase/can/be/asked/for "$@" 2>&1
}

# The key's text: as it is in the variable, or in the file that it names.
key_text() { if [ -n "$file" ]; then cat -- "$file"; else printf '%s\n' "$board_key"; fi; }

# The same without the damage that copying does to a key: line ends of Windows or none at all, blanks in their place or around lines, '\n'
# written out, a last line without its end, and other text before or behind it, such as quotes. It goes to ssh-add through a pipe, never to a disk.
mended_key() {
    key_text | LC_ALL=C awk '
        { sub(/\r+$/, ""); gsub(/\\r/, ""); gsub(/\\n/, "\n"); gsub(/\r/, "\n"); gsub(/[ \t]+\n/, "\n"); sub(/[ \t]+$/, ""); sub(/^[ \t]+/, ""); whole = whole $0 "\n" }
        END {
            if (!match(whole, /-----BEGIN [A-Z ]*PRIVATE KEY-----/)) { printf "%s", whole; exit }
            first = substr(whole, RSTART, RLENGTH); body = substr(whole, RSTART + RLENGTH); last = ""
            if (match(body, /-----END [A-Z ]*PRIVATE KEY-----/)) { last = substr(body, RSTART, RLENGTH) "\n"; body = substr(body, 1, RSTART - 1) }
            # Lines with a colon say how a key is encrypted; without them a key has no blanks that mean anything.
            if (body !~ /:/) gsub(/[ \t\n]+/, "\n", body)
            sub(/^\n*/, "\n", body); sub(/\n*$/, "\n", body)
            printf "%s%s%s", first, body, last
        }'
}

# Load the key into the agent.
load_key() {
    newline='
'
    file=
    [ -n "$board_key" ] || fail 'BOARD_KEY is empty: check that the secret is set, and that this build may read it'
    case $board_key in
        *"PRIVATE KEY-"* | *"$newline"*) ;;
        *)
            file=$board_key
            [ -e "$file" ] || fail "BOARD_KEY=$file: no such file; set BOARD_KEY to a private key or to the path of one"
            [ -f "$file" ] || fail "BOARD_KEY=$file is not a file; set BOARD_KEY to a private key or to the path of one"
            { [ -r "$file" ] && cat -- "$file" > /dev/null 2>&1; } || fail "BOARD_KEY=$file can't be read by $(id -un 2> /dev/null || id -u): make that account its owner"
            [ -s "$file" ] || fail "BOARD_KEY=$file is empty: store the private key again"
            ;;
    esac
    key="BOARD_KEY${file:+=$file}"
    case $(mended_key) in
        *PuTTY-User-Key-File*) fail "$key is in PuTTY's format: convert it with 'puttygen KEY -O private-openssh -o NEW'" ;;
        *"PRIVATE KEY-"*) ;;
        *) fail "$key is not a private key; it has no line '-----BEGIN … PRIVATE KEY-----'. Is it the public key? Store the private key, as ssh-keygen wrote it" ;;
    esac
    if [ -n "$file" ]; then said=$(add -- "$file" < /dev/null) && return; else said=$(key_text | add -) && return; fi
    case $said in
        *'UNPROTECTED PRIVATE KEY'*) fail "$key can be read by other accounts, and ssh-add refuses such a key: run chmod 600 on it" ;;
    esac
    if said=$(mended_key | add -); then
        say "$key was damaged when it was copied (line ends, blanks or other text around it), and was repaired for this gate: store the key again, as ssh-keygen wrote it"
        return
    fi
    case $said in
        '' | *askpass* | *assphrase*) fail "$key has a passphrase, and nobody can type it in a build: use a key without one (ssh-keygen -p -f KEY -N ''), or load it into an agent and unset BOARD_KEY" ;;
        *) fail "$key can't be loaded: $(last_line "$said"); store the private key again, as ssh-keygen wrote it" ;;
    esac
}
