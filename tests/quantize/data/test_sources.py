"""Files of arrays: what is wrong with one is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.quantize.data.sources import open_file


def test_a_member_that_is_no_array_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(DataError, match=r"data\.npz: not a numpy file or damaged: 'notes\.txt' is not a numpy array"):
        open_file(tmp_path / "data.npz", [])
