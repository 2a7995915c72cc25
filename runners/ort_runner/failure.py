"""Where a task is, so that a failure can be told by the case and the step."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from protocol_runner import Failure, Task

MESSAGE_LIMIT = 2000


class Stage:
    """The step that a task is in, and the case that it works on; None where it works on two at once."""

    def __init__(self, case: str) -> None:
        self.step: Literal["load", "run"] = "load"
        self.case: str | None = case


def failure(error: Exception, task: Task, stage: Stage) -> Failure:
    """Describe an error as the outcome of the case."""
    scarce = isinstance(error, MemoryError) or re.search(r"bad_alloc|[Ff]ailed to allocate", str(error))
    message = re.sub(r"\s+", " ", "%s: %s" % (type(error).__name__, error))
    message = message.replace(os.path.dirname(task["cases"][0]["model"]) + "/", "")
    return {"event": "failed", "kind": "memory" if scarce else stage.step, "message": message[:MESSAGE_LIMIT], "case": stage.case}
