"""Who holds this device."""

from __future__ import annotations

import json
import os

import machine_lease
import store


def holder() -> str | None:
    """Who holds this device, as JSON; None if nobody does. Another account's job, or one of another store, holds it too."""
    found = machine_lease.holder()
    return holder_here() if found is None else json.dumps(found, ensure_ascii=False)


def holder_here() -> str | None:
    """What the job of this store that holds this device wrote about itself; None if none does."""
    try:
        with open(os.path.join(store.root(), "lease"), "rb") as lease:
            return lease.read(store.MESSAGE_LIMIT).decode(errors="replace") if store.is_locked(lease) else None
    except OSError:
        return None
