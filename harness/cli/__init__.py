"""The command line: one module for each command."""

import gc
import sys

CRASHED, INTERRUPTED = 70, 130


def main() -> None:
    """Run the command line and end the process with the command's exit code.

    Nothing is imported before this is called, so that also a broken installation ends with a message and a code of its own.
    """
    # Collecting garbage while modules are imported takes a tenth of the time of --help; version.root switches it on before a command runs.
    gc.disable()
    try:
        from harness.cli.start import start
    except KeyboardInterrupt:
        # Before the handlers of signals are there.
        sys.exit(INTERRUPTED)
    except Exception as exc:  # noqa: BLE001 - whatever a broken file raises
        if sys.stderr is not None:
            sys.stderr.write(f"harness: this installation is broken: {type(exc).__name__}: {exc}; install the harness again\n")
        sys.exit(CRASHED)
    start()
