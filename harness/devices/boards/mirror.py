"""The Debian mirror, as this machine's own apt says."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from urllib.parse import urlsplit

DEFAULT = "http://deb.debian.org/debian"
SCHEMES = ("http", "https", "file")
SUITES = {"bullseye", "bookworm", "trixie", "forky", "oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"}
ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True)
class Source:
    """One archive that apt reads."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]

    @property
    def is_debian(self) -> bool:
        """Whether it is Debian's own archive, and not somebody's for Debian, nor its security updates."""
        path = urlsplit(self.uri).path.strip("/").split("/")
        own = path[-1] == "debian" or path[-3:-1] == ["archive", "debian"]
        return urlsplit(self.uri).scheme in SCHEMES and own and "main" in self.components and bool(SUITES & set(self.suites))


def mirror(etc: Path = Path("/etc/apt")) -> str:
    """Give the mirror that this machine's apt uses for Debian; Debian's own where it uses none."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for file in files:
        if file.suffix in {".list", ".sources"} and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            found += _one_line(text) if file.suffix == ".list" else _stanzas(text)
    updates = {source.uri for source in found if any(suite.endswith("-updates") for suite in source.suites)}
    debian = [source.uri for source in found if source.is_debian]
    # Others who publish for Debian use its suites and components too, but have no -updates.
    return next((uri for uri in debian if uri in updates), debian[0] if debian else DEFAULT).rstrip("/")


def proxy() -> str | None:
    """Give the HTTP proxy that this machine's apt uses, if any."""
    command = which("apt-config")
    if command is None:
        return None
    done = subprocess.run(
        [command, "shell", "PROXY", "Acquire::http::Proxy"], capture_output=True, text=True, check=False, timeout=30
    )
    found = re.fullmatch(r"PROXY='(http[^']+)'", done.stdout.strip())
    return found[1] if found else None


def _one_line(text: str) -> list[Source]:
    """Read ``deb URI SUITE COMPONENT…`` lines."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    found = (ONE_LINE.fullmatch(line) for line in lines)
    return [Source(match["uri"], (match["suite"],), tuple(match["components"].split())) for match in found if match]


def _stanzas(text: str) -> list[Source]:
    """Read deb822 stanzas."""
    sources = []
    for stanza in re.split(r"\n\s*\n", "\n".join(line for line in text.splitlines() if not line.startswith("#"))):
        fields: dict[str, list[str]] = {}
        last: list[str] = []
        for line in stanza.splitlines():
            if line[:1].isspace():
                last += line.split()
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key.lower()] = last = value.split()
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0].lower() not in {"no", "false", "0"}:
            sources += [
                Source(uri, tuple(fields.get("suites", [])), tuple(fields.get("components", [])))
                for uri in fields.get("uris", [])
            ]
    return sources
