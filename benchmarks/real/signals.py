"""Inputs that are like real ones: speech, music, drawn pictures, written lines, and the features that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))  # Hz, of five vowels
WORDS = [
    "Invoice",
    "2024",
    "Total",
    "318.50",
    "Street",
    "Berlin",
    "Quality",
    "report",
    "Order",
    "number",
    "77",
    "Warning",
    "open",
    "door",
    "slowly",
]


def speech(rng: np.random.Generator, count: int, rate: int = 16000) -> Array:
    """Draw something like speech: voiced syllables with formants, pauses and noise; float32 of about -0.5..0.5, [count]."""
    found = np.zeros(count)
    place = int(rng.integers(0, rate // 10))
    while place < count:
        size = min(int(rng.uniform(0.12, 0.35) * rate), count - place)
        time = np.arange(size) / rate
        pitch = rng.uniform(90, 240) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(1, 4) * time))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        peaks = FORMANTS[int(rng.integers(len(FORMANTS)))]
        syllable = np.zeros(size)
        for harmonic in range(1, 25):
            gain = sum(np.exp(-(((harmonic * pitch.mean() - peak) / 150) ** 2)) for peak in peaks) + 0.02
            syllable += gain / harmonic**0.5 * np.sin(harmonic * phase)
        found[place : place + size] = rng.uniform(0.1, 0.4) * syllable / np.abs(syllable).max() * np.hanning(size)
        place += size + int(rng.choice([0.02, 0.05, 0.3]) * rate)
    return (found + rng.uniform(0.0005, 0.01) * rng.normal(size=count)).astype(np.float32)


def music(rng: np.random.Generator, count: int, rate: int = 22050) -> Array:
    """Draw notes of a plucked instrument, several at once; float32, [count]."""
    found = np.zeros(count)
    for _ in range(8):
        start = int(rng.integers(0, count * 3 // 4))
        time = np.arange(count - start) / rate
        note = 440 * 2 ** (int(rng.integers(-24, 20)) / 12)
        found[start:] += (
            rng.uniform(0.05, 0.2) * np.exp(-3 * time) * sum(np.sin(2 * np.pi * note * h * time) / h for h in range(1, 7))
        )
    return (found + 0.001 * rng.normal(size=count)).astype(np.float32)


def picture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Draw shapes, and faces on some; uint8, [height, width, 3]."""
    shade = np.linspace(0, 1, width)[None, :, None] * rng.uniform(0, 200, 3) + np.linspace(0, 1, height)[
        :, None, None
    ] * rng.uniform(0, 55, 3)
    image = Image.fromarray(shade.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 9))):
        left, top = rng.uniform(0, width * 0.8), rng.uniform(0, height * 0.8)
        box = (left, top, left + rng.uniform(0.05, 0.5) * width, top + rng.uniform(0.05, 0.5) * height)
        color = tuple(int(each) for each in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=color)  # noqa: PLR2004
    x, y, size = rng.uniform(0.2, 0.6) * width, rng.uniform(0.2, 0.6) * height, rng.uniform(0.1, 0.3) * width
    draw.ellipse((x, y, x + size, y + 1.3 * size), fill=(int(rng.integers(150, 240)), 160, 130))
    for eye in (0.3, 0.7):
        draw.ellipse((x + (eye - 0.08) * size, y + 0.4 * size, x + (eye + 0.08) * size, y + 0.5 * size), fill=(40, 30, 30))
    draw.arc(
        (x + 0.3 * size, y + 0.75 * size, x + 0.7 * size, y + size), 20, 160, fill=(150, 40, 40), width=max(1, int(size / 20))
    )
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    return np.asarray(np.clip(np.asarray(blurred) + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8))


def line(rng: np.random.Generator, height: int, width: int, *, turned: bool = False) -> Array:
    """Draw a line of text; uint8, [height, width, 3]."""
    paper, ink = int(rng.integers(170, 256)), int(rng.integers(0, 90))
    image = Image.new("RGB", (width, height), (paper, paper, max(0, paper - int(rng.integers(0, 40)))))
    font = ImageFont.load_default(size=height * rng.uniform(0.5, 0.75))
    text = " ".join(str(each) for each in rng.choice(WORDS, 4))
    ImageDraw.Draw(image).text((rng.uniform(2, 10), height * 0.12), text, fill=(ink, ink, ink), font=font)
    image = image.rotate(180) if turned else image
    return np.asarray(np.clip(np.asarray(image) + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8))


def page(rng: np.random.Generator, height: int, width: int) -> Array:
    """Draw a page of lines; uint8, [height, width, 3]."""
    rows = [line(rng, int(size), width) for size in (height // 8, height // 6, height // 8, height // 5, height // 8)]
    image = np.concatenate(rows)[:height]
    missing = np.full((height - len(image), width, 3), 230, np.uint8)
    return np.concatenate([image, missing])


def channels_first(image: Array, mean: Any = 0.0, deviation: Any = 1.0, scale: float = 255.0) -> Array:  # noqa: ANN401 - one for all, or for each
    """Norm a picture and put its channels first; float32, [1, 3, height, width]."""
    return np.ascontiguousarray(
        ((image / scale - np.asarray(mean)) / np.asarray(deviation)).transpose(2, 0, 1)[None].astype(np.float32)
    )


def spectrum(wave: Array, size: int, step: int, frames: int) -> Array:
    """Give the power of each frame and frequency; float64, [frames, size // 2 + 1]."""
    padded = np.concatenate([wave, np.zeros(size)])
    starts = np.minimum(np.arange(frames) * step, len(padded) - size)
    return np.asarray(np.abs(np.fft.rfft(padded[starts[:, None] + np.arange(size)] * np.hanning(size))) ** 2)


def mel(power: Array, bands: int, rate: int = 16000) -> Array:
    """Sum a power spectrum over bands of the mel scale; float64, [frames, bands]."""
    points = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, power.shape[1])
    rise = (frequencies - points[:-2, None]) / (points[1:-1] - points[:-2])[:, None]
    fall = (points[2:, None] - frequencies) / (points[2:] - points[1:-1])[:, None]
    return np.asarray(power @ np.maximum(0, np.minimum(rise, fall)).T)
