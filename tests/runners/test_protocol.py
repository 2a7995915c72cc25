"""The types of the protocol, the page that explains them, and the controller's checks of what a device says agree."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, get_args, get_type_hints, is_typeddict

import pytest

from harness.devices import facts, protocol
from harness.measure import events, launch, packed
from harness.paths import RUNNERS

if TYPE_CHECKING:
    from pydantic import BaseModel

PAGE = (RUNNERS / "PROTOCOL.md").read_text()
# What a line of the run's journal has that the device does not say.
CONTROLLERS_OWN = {"device", "offset"}


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every definition of the protocol by its name."""
    monkeypatch.syspath_prepend(RUNNERS)
    found: dict[str, Any] = {}
    for name in ("protocol", "protocol_runner", "protocol_journal"):
        found |= vars(importlib.import_module(name))
    return found


def keys(kind: Any) -> set[str]:
    return set(kind.__required_keys__ | kind.__optional_keys__)


def fields(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_the_page_names_each_key(types: dict[str, Any]) -> None:
    code = " ".join(re.findall(r"^```.*?^```|`[^`]+`", PAGE, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"\w+", code))
    found = {f"{name}.{key}" for name, kind in types.items() if is_typeddict(kind) for key in keys(kind) - named}
    assert found == set()


def literals(kind: Any, types: dict[str, Any]) -> tuple[str, ...]:
    """The events that a type stands for."""
    return get_args(get_type_hints(kind, types)["event"])


def test_the_page_names_each_event_and_the_version(types: dict[str, Any]) -> None:
    kinds = [kind for name in ("Reply", "Result", "Line") for kind in get_args(types[name])]
    assert {event for kind in kinds for event in literals(kind, types) if f"`{event}`" not in PAGE} == set()
    assert f"Protocol version: {protocol.PROTOCOL}." in PAGE


def test_the_controller_reads_each_event_of_a_job_and_all_its_keys(types: dict[str, Any]) -> None:
    models = {model.model_fields["event"].default: model for model in get_args(events.Event)}
    told = {event: kind for kind in get_args(types["Line"]) for event in literals(kind, types)}
    assert set(told) == events.SAID_THERE
    unread = {(event, key) for event, kind in told.items() for key in keys(kind) - fields(models[event])}
    # The controller checks that one before it reads the event.
    assert unread == {("begin", "protocol")}
    unsaid = {(event, key) for event, kind in told.items() for key in fields(models[event]) - CONTROLLERS_OWN - keys(kind)}
    assert unsaid == set()


@pytest.mark.parametrize(
    "model",
    [
        events.Outputs, events.Operator, events.Graph, launch.Conditions, launch.BlockPair, launch.Rebuild, packed.Samples,
        facts.Frequencies, facts.Emulation, facts.CoreKind, facts.Runtime,
    ],
    ids=lambda model: model.__name__,
)  # fmt: skip
def test_the_controller_reads_all_keys_of_a_part(types: dict[str, Any], model: type[BaseModel]) -> None:
    assert fields(model) == keys(types[model.__name__])


def test_the_controller_reads_all_facts(types: dict[str, Any]) -> None:
    assert keys(types["Facts"]) - {"event"} == fields(facts.Facts)
