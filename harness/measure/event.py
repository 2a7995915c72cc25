"""What every line of a run's journal has, and the bounds of its fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
# A round's number: samples.parquet has room for so many.
Turn = Annotated[int, Field(ge=0, lt=2**31)]
Nanoseconds = Count
Message = Annotated[str, Field(max_length=4000)]
Id = Annotated[str, Field(max_length=100)]


class Line(BaseModel):
    """An event of a run.

    Attributes:
        offset: where the device's journal goes on after it, for a line that came from there.
    """

    # Aliases are the names of keys as the protocol and the files have them.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True)

    device: Id
    offset: Count | None = None
