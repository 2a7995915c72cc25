"""Another host key than the known one: the message says which was expected, where that is written, and how to replace it."""

from __future__ import annotations

import pytest

from harness.errors import HostKeyError
from tests.devices.transports.test_ssh_config import block, config, gates, known_hosts, link
from tests.sshd import SshServer

__all__ = ["gates"]


@pytest.mark.ssh
def test_another_key_of_a_hop_says_where_the_known_one_is(sshd: SshServer, gates: tuple[SshServer, SshServer]) -> None:
    config(block("gate", gates[0]) + block("rpi4", sshd, "ProxyJump gate"))
    known = known_hosts(sshd)
    with known.open("a") as file:
        file.write(f"# the gate\n[127.0.0.1]:{gates[0].port} {gates[1].host_key}\n")
    with pytest.raises(
        HostKeyError,
        match=rf"at the jump host .*not the one expected: .*\({known}:3\); .*: ssh-keygen -R '\[127\.0\.0\.1\]:{gates[0].port}' -f {known}$",
    ):
        link('[board]\nhost = "rpi4"\n')
    entry = gates[0].entry("gate", host_key=gates[1].host_key)
    with pytest.raises(HostKeyError, match=r"\(host_key in devices\.toml:6\); .*: harness device trust gate --replace$"):
        link(entry + '[board]\nhost = "rpi4"\n')
