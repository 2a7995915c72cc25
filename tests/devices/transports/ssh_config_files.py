"""Random ssh_config files for the comparison with ssh: mostly valid ones, spelled as people spell them."""

from __future__ import annotations

from hypothesis import strategies as st

HOSTS = ("rpi", "RPI", "board7", "a.lab")
FOLDER = "/root/.ssh"
GAP = st.sampled_from([" ", " ", " ", "\t", " = ", "=", "= ", " =", "  =  "])
INDENT = st.sampled_from(["", "", "    ", "\t", "  \t"])
END = st.sampled_from(["", "", "", "", " ", "\t", " # comment", ' # "quoted" one', " # gr\xfc\xdfe", " #", "\f"])
PATTERN = st.sampled_from(
    ["rpi", "RPI", "*", "r*", "?pi", "!rpi", "!*.lab", "board?", "*.lab", "b*7", "[a-z]*", "r**i", "pi", "!c", "a.lab", "!board7"]
)
HOST_PATTERN = PATTERN | st.sampled_from(['"rpi"', "'*'", 'r"p"i', '"a.lab"'])
LIST = st.lists(PATTERN, min_size=1, max_size=3).map(",".join)
NAMES = st.sampled_from(["root", "pi", "*", "p*,!pi", "!root", "root,pi", "Pi"])
PLACES = [
    "~/.ssh/k1", '"~/.ssh/k 2"', "~/.ssh/k\\ 2", "'/root/.ssh/k 2'", "/root/.ssh/%h", "~/.ssh/${E_NAME}", "/root/.ssh/%%k", "none",
    "%d/.ssh/k1", "~/.ssh/%n-%p-%r", "/root/.ssh/a\\b", "~root/.ssh/k1", "~harness-test/k1", "/root/.ssh/%k", '/root/.s"sh/k 2"',
    "relative/k1", "~/.ssh/%u%i", "/root/.ssh/" + "long" * 150, "~/.ssh/k3",
]  # fmt: skip
VALUES = {
    "HostName": ["10.0.0.7", "%h.lab", "Board7", '"other"', "%%x", "rpi", "[::1]", "::1", "%h", "a.%h.b"],
    "User": ["pi", "root", '"two words"', "'pi'", "a\\\\b", "p#i", "Pi", 'p"i"', "user@domain"],
    "Port": ["22", "2222", "ssh", "http", '"23"', "022", "+5", "65535"],
    "IdentityFile": PLACES,
    "CertificateFile": PLACES,
    "UserKnownHostsFile": [*PLACES, '~/.ssh/k1 "~/.ssh/k 2"', "~/.ssh/k3 ~/.ssh/k1", "/dev/null"],
    "GlobalKnownHostsFile": ["~/.ssh/k1", "none", '~/.ssh/k1 "/root/.ssh/k 2"', "/root/.ssh/k3"],
    "IdentitiesOnly": ["yes", "no", "true", "FALSE", "Yes", '"yes"', "false"],
    "IdentityAgent": ["none", "SSH_AUTH_SOCK", "$OTHER", "~/agent", "/run/%u/agent", "${E_NAME}", '"/a b"'],
    "HostKeyAlias": ["Board7", "x", '"a b"', "rpi"],
    "ProxyJump": ["gate", "pi@two:23", "one,two", "none", "None", "ssh://pi@one:9", "pi@one,root@two:9", "[::1]:22"],
    "ProxyCommand": ["nc %h %p", "none", 'sh -c "nc %h %p"', "x # y", "nc %r@%n %%", "NONE", "nc -X 5 %h %p", "a %k"],
    "AddressFamily": ["inet", "inet6", "any", "INET"],
    "BindAddress": ["127.0.0.1", '"::1"', "*"],
    "StrictHostKeyChecking": ["yes", "no", "ask", "accept-new", "off", "True"],
    "Tag": ["lab"],
    "CanonicalizeHostname": ["yes", "no", "always", "true"],
    "CanonicalDomains": ["lab.invalid"],
    "Compression": ["yes", "no"],
    "SendEnv": ["LANG LC_*"],
    "Protocol": ["2"],
    "UsePrivilegedPort": ["no"],
    "ServerAliveInterval": ["30", "1m"],
    "IgnoreUnknown": ["RequiredRSASize,UseKeychain,Tag"],
    "UseKeychain": ["yes"],
    "PubkeyAcceptedKeyTypes": ["+ssh-rsa"],
}  # fmt: skip
# What ssh refuses, or takes as something else: rare, for one such line ends ssh.
ODD_VALUES = {
    "HostName": ["", "a b", "%z", "%n", "a.%h # c d"],
    "User": ["", '""', "#pi", '"open'],
    "Port": ["0", "65536", "x", "-1", "22 23", "1e3", ""],
    "IdentityFile": ["${E_NOT}/x", "/root/.ssh/%z", "a b", '""', "${E_NOT", "%"],
    "CertificateFile": ["${E_NOT}/x", "/root/.ssh/%z", "a b"],
    "UserKnownHostsFile": ["none ~/.ssh/k1", "~/.ssh/k1 none", ""],
    "GlobalKnownHostsFile": ["~/.ssh/k3 none", ""],
    "IdentitiesOnly": ["1", "maybe", "ask", "yes no"],
    "IdentityAgent": ["${E_NOT}", "a b", "$", "$1", ""],
    "HostKeyAlias": ["", "a b"],
    "ProxyJump": ["a@b@c", "x:0", "", "a:b:c", "one,,two"],
    "ProxyCommand": ["'", "", "x %z", "x %"],
    "AddressFamily": ["x", "inet inet6"],
    "BindAddress": ["", "a b"],
    "StrictHostKeyChecking": ["x", "1"],
    "Compression": ["maybe"],
    "NoSuchWord": ["x"],
}
CRITERION = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "", "!"]),
        st.sampled_from(["host", "Host", "originalhost", "OriginalHost"]),
        st.sampled_from([" ", "=", " = "]),
        LIST,
    ),
    st.builds("{}{} {}".format, st.sampled_from(["", "!"]), st.sampled_from(["user", "USER", "localuser"]), NAMES),
    st.sampled_from(["final", "canonical", "!final", "exec true", '!exec "test %h = rpi"', 'exec "exit 1"', 'host "rpi"', 'host="rpi,a"']),
)  # fmt: skip
ODD_LINES = st.sampled_from(
    [
        "Host", 'Host "rpi', "\x00x", "User a\x00b", "User", "Match", "Match host", "Match nosuch x", "Match all host rpi", "Match host rpi all",
        "Match !all", "Match tagged lab", "Match # none", 'Match exec "true', "Include", 'Include ""', "Host=*", "Host a b !c", "Host a # b",
        "Include ~nobody-is-this/x", 'Host ""', "Match sessiontype shell", "Match localnetwork 127.0.0.0/8", "\xef\xbb\xbfUser pi",
    ]
)  # fmt: skip
PLAIN_LINES = st.sampled_from(
    [
        "",
        "# comment",
        "  # gr\xfc\xdfe",
        "\t",
        "\f",
        "Match all",
        "Match final all",
        "Match canonical all",
        "Host *",
        "Host rpi board7 a.lab",
    ]
)
DEEPER = ["none", "no*", "folder", "folder/*", "~/.ssh/folder/nested", "folder/nested none"]
INCLUDED = ["more", "~/.ssh/more", "mo*", "/root/.ssh/more", "more folder/*", '"more"', "~root/.ssh/more", "m?re more", *DEEPER]


@st.composite
def setting(draw: st.DrawFn, values: dict[str, list[str]]) -> str:
    """A line that sets something."""
    key = draw(st.sampled_from(sorted(values)))
    spelled = draw(st.sampled_from([key, key, key, key.lower(), key.upper(), f'"{key}"']))
    value = draw(st.sampled_from(values[key]))
    return draw(INDENT) + spelled + draw(GAP) + value + draw(END)


@st.composite
def texts(draw: st.DrawFn, included: list[str]) -> str:
    """A whole file, which may include others."""
    key = st.sampled_from(["Include ", "include = ", "  INCLUDE\t"])
    includes = [st.builds("{}{}".format, key, st.sampled_from(included))] if included else []
    host = st.lists(HOST_PATTERN, min_size=1, max_size=3).map(lambda each: "Host " + " ".join(each))
    match = st.lists(CRITERION, min_size=1, max_size=3).map(lambda each: "Match " + " ".join(each))
    said = setting(VALUES)
    lines = draw(st.lists(st.one_of(said, said, said, said, host, match, PLAIN_LINES, *includes), min_size=1, max_size=9))
    if draw(st.integers(0, 4)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.one_of(ODD_LINES, setting(ODD_VALUES))))
    return draw(st.sampled_from(["\n", "\n", "\n", "\r\n"])).join(lines) + draw(st.sampled_from(["\n", ""]))
