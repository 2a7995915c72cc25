from __future__ import annotations

import pytest

from harness.devices.device import Device, Origin
from harness.devices.transports.route import ssh_connection
from harness.errors import EntryError


def test_a_jump_host_that_was_not_looked_up_is_never_left_out() -> None:
    board = Device(name="board", host="10.0.0.7", port=22, jump="gate")
    with pytest.raises(EntryError, match="its jump host 'gate' is unknown"):
        ssh_connection(board)


def test_the_outermost_jump_host_is_connected_to_first() -> None:
    outer = Device(name="outer", host="10.0.0.1", port=2201)
    gate = Device(name="gate", host="10.0.0.2", jump="outer").read_from(Origin(jump=outer))
    board = Device(name="board", host="10.0.0.7", jump="gate").read_from(Origin(jump=gate))
    connection = ssh_connection(board)
    try:
        assert connection.first == ("10.0.0.1", 2201)
    finally:
        connection.close()
