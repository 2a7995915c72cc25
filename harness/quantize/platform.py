"""A platform: the instruction set and the runtime that a variant is planned for. It is plain data, not a device."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from packaging.version import InvalidVersion, Version

from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.quantize.model.outline import Summary
    from harness.quantize.recipe import Recipe

    Applies = Callable[["Platform", Recipe, Summary], bool]

Effect = Literal["refused", "wrong", "less accurate", "slow"]

ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
# Those that the rules, or wheels of onnxruntime, know.
KNOWN = ("x86_64", "aarch64", "armv7l", "armv6l", "i686", "ppc64le", "s390x", "riscv64", "loongarch64")
# Features as /proc/cpuinfo names them, and other words for some.
FEATURES = (
    *("amx_bf16", "amx_int8", "amx_tile", "avx", "avx2", "avx512_bf16", "avx512_fp16", "avx512_vbmi2", "avx512_vnni", "avx512bw"),
    *("avx512cd", "avx512dq", "avx512f", "avx512vbmi", "avx512vl", "avx_vnni", "avx_vnni_int8", "f16c", "fma", "sse4_2", "ssse3"),
    *("asimd", "asimddp", "asimdfhm", "asimdhp", "asimdrdm", "bf16", "fp", "fphp", "i8mm", "neon", "sme", "sme2", "sve", "sve2"),
    *("sve2p1", "svebf16", "svei8mm", "vfpv4", "smep", "avx512_4vnniw", "amx_fp16", "avx512er", "avx512pf", "avx_vnni_int16"),
)
ALSO_CALLED = {"dotprod": "asimddp", "fp16": "asimdhp", "vnni": "avx512_vnni", "avx512": "avx512f", "amx": "amx_int8"}


@dataclass(frozen=True)
class Platform:
    """Where a model will run.

    Attributes:
        name: for the reader.
        arch: as ``uname -m`` says it, such as ``x86_64`` or ``aarch64``.
        features: of the processor, as /proc/cpuinfo names them.
        runtime: onnxruntime's version; None if it is not known, and then no rule about versions applies.
    """

    name: str
    arch: str
    features: frozenset[str] = frozenset()
    runtime: str | None = None

    @property
    def is_x86(self) -> bool:
        """Whether it is a 64-bit x86."""
        return ARCHITECTURES.get(self.arch.lower(), self.arch.lower()) == "x86_64"

    @property
    def is_arm(self) -> bool:
        """Whether it is an ARM, of 64 or 32 bits."""
        return ARCHITECTURES.get(self.arch.lower(), self.arch.lower()).startswith(("aarch64", "arm"))

    def runs(self, since: str = "0", before: str | None = None) -> bool:
        """Whether its runtime is known to be of these versions, the first one included."""
        if self.runtime is None:
            return False
        own = Version(self.runtime)
        return Version(since) <= own and (before is None or own < Version(before))


@dataclass(frozen=True)
class PlatformRule:
    """What is known of a recipe on a platform.

    Attributes:
        key: a short name, as the documentation and the tests call it.
        effect: what comes of it.
        applies: says whether a recipe, of a model, meets it on a platform.
        reason: what is so, for a reader.
        source: an issue, a release, a file of onnxruntime.
        seen: where it was seen, where no test can show it.
        advice: what to do about it, if there is something.
    """

    key: str
    effect: Effect
    applies: Applies
    reason: str
    source: str
    seen: str = ""
    advice: str = ""


def platform(text: str) -> Platform:
    """Read ``ARCH,FEATURE,…,VERSION``, such as ``aarch64,asimddp,1.23.2``; the version may be missing.

    Raises:
        ValueError: if it is not of that form.
    """
    arch, *rest = [part.strip() for part in text.split(",")]
    if not arch.replace("_", "").isalnum() or arch[0].isdigit() or not all(rest):
        message = f"'{text}' is not a platform: write ARCH,FEATURE,…,VERSION, such as aarch64,asimddp,1.23.2 or x86_64,avx512_vnni,1.31.1"
        raise ValueError(message)
    if arch.lower() not in {*KNOWN, *ARCHITECTURES}:
        message = (
            f"'{text}': {arch} is not an architecture as `uname -m` names them; {nearest(arch.lower(), [*KNOWN, *ARCHITECTURES])}"
        )
        raise ValueError(message)
    versions = [part for part in rest if part[0].isdigit()]
    try:
        valid = [str(Version(part)) for part in versions]
    except InvalidVersion as exc:
        message = f"'{text}': {versions[0]} is not a version of onnxruntime, such as 1.23.2"
        raise ValueError(message) from exc
    if len(valid) > 1:
        message = f"'{text}' names {len(valid)} versions of onnxruntime; give one --platform for each"
        raise ValueError(message)
    features = frozenset(_feature(part) for part in rest if not part[0].isdigit())
    return Platform(text, ARCHITECTURES.get(arch.lower(), arch.lower()), features, valid[0] if valid else None)


def _feature(word: str) -> str:
    """Give a feature the name that /proc/cpuinfo has for it; what nobody has heard of passes.

    Raises:
        ValueError: if it is nearly one that is known: no rule would apply for a letter.
    """
    name = ALSO_CALLED.get(word.lower(), word.lower().replace("-", "_"))
    near = [] if name in FEATURES else get_close_matches(name, FEATURES, 2, 0.85)
    if near:
        message = f"'{word}' is not a feature of a processor; did you mean {' or '.join(repr(each) for each in near)}?"
        raise ValueError(message)
    return name
