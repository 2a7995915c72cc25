"""Convolutions, and operators that resize images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quantize.nodes.case import IMAGE, LAST, RNG, Case, fixed, forms, normal

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    weights = normal(6, 3, 3, 3)
    for given in forms(
        {},
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"dilations": [2, 2]},
    ):
        yield Case("Conv", 7, LAST, (IMAGE, fixed(weights, np.float32), fixed(normal(6), np.float32)), given)
        if "dilations" not in given:
            turned = fixed(normal(3, 4, 3, 3), np.float32)
            yield Case("ConvTranspose", 7, LAST, (IMAGE, turned, fixed(normal(4), np.float32)), given)
    yield Case("ConvTranspose", 7, LAST, (IMAGE, turned), {"strides": [2, 2], "output_padding": [1, 1]})
    yield Case("ConvTranspose", 7, LAST, (IMAGE, turned), {"strides": [2, 2], "output_shape": [15, 19]})
    for scales in ([1, 1, 2, 2], [1, 1, 1.5, 2.5], [1, 1, 3.3, 1.2], [1, 1, 0.6, 0.5], [1, 1, 0.3, 0.7], [1, 1, 1.7, 0.4]):
        for mode in ("nearest", "linear"):
            if min(scales) >= 1:
                yield Case("Upsample", 7, 8, (IMAGE,), {"mode": mode, "scales": list(map(float, scales))})
                yield Case("Upsample", 9, 9, (IMAGE, fixed(scales, np.float32)), {"mode": mode})
            yield Case("Resize", 10, 10, (IMAGE, fixed(scales, np.float32)), {"mode": mode})
            for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
                given = {"mode": mode, "coordinate_transformation_mode": transformation}
                yield Case("Resize", 11, LAST, (IMAGE, fixed([], np.float32), fixed(scales, np.float32)), given)
                yield Case("Resize", 13, LAST, (IMAGE, None, fixed(scales, np.float32)), given)
    yield Case("Upsample", 9, 9, (IMAGE, fixed([1, 1, 2, 2], np.float32)))
    yield Case("Resize", 10, 10, (IMAGE, fixed([1, 1, 2, 2], np.float32)))
    yield Case("Resize", 11, LAST, (IMAGE, fixed([], np.float32), fixed([], np.float32), fixed([1, 3, 10, 5])), {"mode": "cubic"})
    rois = (fixed([[0, 0, 5, 5], [1, 2, 6, 8]], np.float32), fixed([0, 0]))
    for given in forms({}, {"mode": "max"}, {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.5}):
        yield Case("RoiAlign", 10, LAST, (IMAGE, *rois), given)
    yield Case("RoiAlign", 16, LAST, (IMAGE, *rois), {"coordinate_transformation_mode": "half_pixel"})
    grid = fixed(RNG.uniform(-1.2, 1.2, (1, 4, 5, 2)), np.float32)
    for given in forms(
        {},
        {"mode": "nearest"},
        {"mode": "bicubic"},
        {"mode": "bilinear", "align_corners": 1},
        {"padding_mode": "border"},
    ):
        yield Case("GridSample", 16, 19, (IMAGE, grid), given)
    yield Case("GridSample", 20, LAST, (IMAGE, grid), {"mode": "cubic"})
