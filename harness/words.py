"""What devices and models say, made fit to be shown."""

from __future__ import annotations

import re

# Control characters but tab and line ends, lone surrogates and non-characters.
_OBEYED = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(words: str) -> str:
    """Replace what a terminal would obey or XML 1.0 forbids: devices' and models' words are shown to people as they are."""
    return _OBEYED.sub("\ufffd", words)
