"""Keeps the chatter of onnxruntime's tools from the user's terminal."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

FATAL = 4  # onnxruntime's log severities; what is worse than a warning also comes as an exception
WARNING = 2
# Streams, loggers and warnings are the process's: of two threads, the second would put the first one's sinks back.
ONE_AT_A_TIME = threading.RLock()


class _Sink:
    """Stands for a stream, and drops what one thread writes; a progress display in another goes on."""

    def __init__(self, stream: TextIO, thread: int) -> None:
        self._stream = stream
        self._thread = thread

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop this thread's prints, Python warnings, log records of onnxruntime and of the root logger, and the C++ side's log.

    One thread at a time; others wait.
    """
    with ONE_AT_A_TIME:
        yield from _quiet()


def _quiet() -> Iterator[None]:
    thread = threading.get_ident()
    root, tools = logging.getLogger(), logging.getLogger("onnxruntime")
    streams, level = (sys.stdout, sys.stderr), tools.level

    def others(_: logging.LogRecord) -> bool:
        return threading.get_ident() != thread

    # logging.warning() installs a handler for good when the root logger has none.
    handler = logging.NullHandler()
    try:
        # Ctrl-C may come at any of these lines, and what is said of it must not be dropped.
        root.addHandler(handler)
        root.addFilter(others)
        tools.setLevel(logging.CRITICAL + 1)
        sys.stdout, sys.stderr = (cast("TextIO", _Sink(stream, thread)) for stream in streams)
        onnxruntime.set_default_logger_severity(FATAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        onnxruntime.set_default_logger_severity(WARNING)
        sys.stdout, sys.stderr = streams
        tools.setLevel(level)
        root.removeFilter(others)
        root.removeHandler(handler)
