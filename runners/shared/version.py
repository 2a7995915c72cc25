"""The version of the protocol that the controller and a device speak (PROTOCOL.md)."""

PROTOCOL = 4
