"""A connection to a device, and all that a device can be asked: probe, push, provision, and start, follow, read and stop a job."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

from harness import files
from harness.devices import lease, program, protocol
from harness.devices import push as pushing
from harness.devices.conversation import Agent
from harness.errors import BusyError, DiedError, RunnerError, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from protocol import Order, Request, Unpack

    from harness.devices.conversation import Conversation
    from harness.devices.device import Device

RESTARTED = "killed, or the board was restarted"
OUTPUT_LIMIT = 1 << 30
# A day of measuring writes far less.
JOURNAL_LIMIT = 1 << 30
START_ATTEMPTS = 3
HOLDER_LIMIT = 2000


class Link:
    """An open connection to a device.

    Every method raises a :class:`~harness.errors.DeviceError`, naming device and step, when the device or the connection fails.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._agent = Agent(device)

    @property
    def python(self) -> str:
        """The Python that runs the agent on the device."""
        return self._agent.python

    def close(self) -> None:
        """Close the connection."""
        self._agent.close()

    def probe(self) -> dict[str, Any]:
        """Ask the prober for the device's facts; they are not checked here."""
        programs = _programs()
        _, runner, prober = programs
        asked = (prober, runner)
        # Most often they are there already: then one question is enough.
        if (facts := self._agent.ask("probe", ["probe", *asked], ["facts", "missing"]))["event"] == "missing":
            # With the job's, which a start would ask for: a new board is asked less often.
            self.push(programs)
            facts = self._agent.ask("probe", ["probe", *asked], ["facts"])
        return facts

    def machine(self) -> dict[str, Any]:
        """Ask the agent for what decides which wheels fit; it is not checked here."""
        return self._agent.ask("provision", ["machine"], ["machine"])

    def unpack(self, wheels: dict[str, str]) -> str:
        """Unpack wheels that were pushed.

        Args:
            wheels: their file names by sha256.

        Returns:
            The runtime that they make; the agent's word for it, unchecked here.
        """
        request: Unpack = {"wheels": [{"sha256": sha256, "name": name} for sha256, name in wheels.items()]}
        return str(self._agent.ask("provision", ["unpack"], ["unpacked"], request).get("runtime"))

    def adopt(self, runtime: str, use: str = "always") -> dict[str, Any]:
        """Use a runtime from now on, or keep it ``beside``, if it can be imported there.

        Returns:
            ``adopted`` with versions, or ``unusable`` with a message; unchecked here.
        """
        return self._agent.ask("provision", ["adopt", runtime, use], ["adopted", "unusable"])

    def push(self, files: dict[str, Path]) -> int:
        """Upload files, by sha256, to the device's store, unless they are there. Returns the number of bytes sent.

        Raises:
            TransferError: if one arrived damaged or can't be stored.
        """
        return pushing.push(self._agent, files, self.device.quota)

    def start(self, job: str, order: Order, files: dict[str, Path]) -> None:
        """Start a job, which continues without this connection. Starting it again finds it running.

        Args:
            job: its name.
            order: what is asked for; the programs that it needs are added here.
            files: what it needs, by sha256; sent if they are not there any more.
        """
        programs = _programs()
        main, runner, prober = programs
        asked: Request = {**order, "prober": prober}
        for _ in range(START_ATTEMPTS):
            if self._agent.ask("start", ["start", job, main, runner], ["started", "missing"], asked)["event"] == "started":
                return
            self.push({**files, **programs})
        raise RunnerError(
            self.device.name,
            "start",
            "the device evicts files from its store during the upload: raise quota in devices.toml, or free disk space there",
        )

    def has(self, job: str) -> bool:
        """Whether a job was started there.

        Raises:
            RunnerError: if it speaks another version of the protocol.
        """
        said = self._agent.ask("start", ["has", job], ["has"])
        if said.get("found"):
            protocol.check_job(said, self.device.name, "resume", job)
        return bool(said.get("found"))

    def holder(self) -> str | None:
        """What the job that holds the device wrote about itself; None if no job holds it."""
        said = self._agent.ask("lease", ["holder"], ["holder"]).get("holder")
        return None if said is None else str(said)[:HOLDER_LIMIT]

    def follow(self, job: str, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the lines of the job's journal from a byte offset on, as it grows, until the job has ended.

        Returns:
            Each line as an object, and the offset after it.

        Raises:
            DiedError: if the job died.
        """
        with self._agent.run("measure", "follow", job, str(offset)) as talk:
            talk.end()
            for reply, length in talk.replies:
                if reply["event"] == "ended":
                    return
                if reply["event"] == "died":
                    raise DiedError(self.device.name, "measure", f"the runner died: {str(reply.get('log'))[-500:] or RESTARTED}")
                offset += length
                if offset > JOURNAL_LIMIT:
                    raise RunnerError(self.device.name, "measure", f"its journal is larger than {JOURNAL_LIMIT} bytes")
                yield reply, offset
        raise RunnerError(self.device.name, "measure", "the journal ended before the job did")

    def read_outputs(self, job: str, names: Sequence[str]) -> Iterator[bytes]:
        """Fetch files of the job's outputs in their order, and verify each. One call fetches all, because each call starts a Python there."""
        with self._agent.run("collect", "read", job, *names) as talk:
            talk.end()
            for name in names:
                yield self._read_output(talk, name)

    def _read_output(self, talk: Conversation, name: str) -> bytes:
        """Assemble one file."""
        data = bytearray()
        for reply, _ in talk.replies:
            if reply["event"] == "ended":
                if reply.get("sha256") == hashlib.sha256(data).hexdigest():
                    return bytes(data)
                break
            more = b""
            with contextlib.suppress(binascii.Error, ValueError):
                more = base64.b64decode(str(reply.get("base64")), validate=True)
            data += more
            if not more:
                break
            if len(data) > OUTPUT_LIMIT:
                raise TransferError(self.device.name, "collect", f"{name} is larger than {OUTPUT_LIMIT} bytes")
        raise TransferError(self.device.name, "collect", f"{name} arrived damaged")

    def end_job(self) -> bool:
        """Stop the job that holds the device, whoever started it. Returns whether there was one.

        Raises:
            BusyError: if it is one of another account, which this account can't end.
        """
        said = self._agent.ask("release", ["release"], ["stopped", "held"])
        if said["event"] == "held":
            who = lease.holder(str(said.get("holder"))[:HOLDER_LIMIT])
            account = f"the account that logs in for [{self.device.name}]"
            fault = (
                f"{account} could not end it from here, because it runs in another container or the device's system does not end it: end it on the device"
                if said.get("mine") is True
                else f"{account} may not end it: wait for it (--wait 10m), ask who started it, or end it as that account or as root"
            )
            reason = f"the device is busy with another job ({who}), and {fault}"
            raise BusyError(self.device.name, "release", reason)
        return bool(said.get("was_running"))

    def stop(self, job: str) -> None:
        """Ask the job to stop, and wait until it has."""
        self._agent.ask("stop", ["stop", job], ["stopped"])


def _programs() -> dict[str, Path]:
    """The programs that run on a device in addition to the agent, by sha256: the job, the runner, the prober."""
    return {files.sha256(path): path for path in (program.job(), program.runner(), program.prober())}
