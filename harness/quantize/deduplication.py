"""Variants that are the same share one file: those that rules know in advance, and those that turn out so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.model import storage
from harness.quantize.model.canonical import canonical_hash
from harness.quantize.model.outline import summarize
from harness.quantize.planning.constraints import impossible
from harness.quantize.planning.equivalence import twins
from harness.quantize.verify import readback, trial_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Recipe, Variant

# What is the user's own, byte for byte, stays in a file of its own.


class Sharing:
    """Which variants of a build are the same file.

    Recipes that rules know for twins are not made twice; made files are compared by their canonical hash. A difference in speed
    between the two is noise.
    """

    def __init__(self, recipes: Sequence[Recipe], model: SourceModel, oldest_runtime: str | None = None) -> None:
        self.model = summarize(model)
        self._runtime = oldest_runtime
        self._twins = twins([recipe for recipe in recipes if self.barred(recipe) is None], self.model)
        self._hashes: dict[str, str] = {}

    def barred(self, recipe: Recipe) -> str | None:
        """Say why a recipe can't exist for this model, or None."""
        return impossible(recipe, self.model)

    def twin_of(self, recipe: Recipe) -> str | None:
        """Name the earlier recipe whose file a recipe gives, if a rule says so: it need not be made."""
        found = self._twins.get(recipe.name)
        return found[0] if found else None

    def known(self, recipe: Recipe, others: Iterable[Variant]) -> Variant | None:
        """Give the variant of a recipe that has a twin, once that is made.

        Args:
            recipe: the later one.
            others: what is done; the twin among them.
        """
        name = self.twin_of(recipe)
        twin = next((other for other in others if other.name == name), None)
        if twin is None:
            return None
        if twin.path is None:
            return twin.model_copy(update={"recipe": recipe, "reason": f"as {twin.name}: {twin.reason}"})
        found = (*readback.check(recipe, twin.path, self._runtime), *filter(trial_run.is_told, twin.notes))
        return _sharing(twin.model_copy(update={"recipe": recipe, "notes": found}), twin)

    def settle(self, variant: Variant, others: Iterable[Variant]) -> Variant:
        """Let a made variant share the file of an earlier one that is the same; its own goes."""
        if variant.path is None or variant.recipe.is_copied:
            return variant
        own = self._hash(variant)
        for other in others:
            if other.path is None or other.path == variant.path or other.recipe.is_copied or self._hash(other) != own:
                continue
            if other.recipe.file_format == variant.recipe.file_format:
                storage.remove(variant.path)
                return _sharing(variant, other)
        return variant

    def _hash(self, variant: Variant) -> str:
        sha256 = variant.sha256 or ""
        if sha256 not in self._hashes:
            assert variant.path is not None  # noqa: S101 - made
            large = storage.is_large(variant.size or 0)
            self._hashes[sha256] = sha256 if large else canonical_hash(variant.path)
        return self._hashes[sha256]


def _sharing(variant: Variant, twin: Variant) -> Variant:
    """A variant with the file of another."""
    return variant.model_copy(
        update={
            "path": twin.path,
            "sha256": twin.sha256,
            "size": twin.size,
            "data": twin.data,
            "notes": (*variant.notes, f"the same file as {twin.name}"),
        }
    )
