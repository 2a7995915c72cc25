"""The transports by name: the class of each, imported when it is first needed."""

from __future__ import annotations

# A run on this machine alone has no use for an SSH library.
TRANSPORTS = {
    "local": "harness.devices.transports.local:LocalTransport",
    "ssh": "harness.devices.transports.ssh:SshTransport",
}
