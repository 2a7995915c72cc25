"""A case's session: created, run once, and ready to be timed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from protocol import Case


class Model:
    """One case's session, made and ready to be called."""

    def __init__(self, case: Case, profile: str | None = None) -> None:
        import numpy as np
        import onnxruntime

        with np.load(case["inputs"], allow_pickle=False) as data:
            stacks = [data["arr_%d" % index] for index in range(len(case["names"]))]
        # asarray: an input without axes would come as a number, not as an array.
        self.feeds = [dict(zip(case["names"], map(np.asarray, sample))) for sample in zip(*stacks)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = case["threads"], 1, 3
        level = "ORT_DISABLE_ALL" if case["optimization"] == "disabled" else "ORT_ENABLE_" + case["optimization"].upper()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.enable_profiling, options.profile_file_prefix = profile is not None, profile or ""
        with open(case["model"], "rb") as file:
            if file.read(8)[4:] == b"ORTM":  # onnxruntime's own format, which it would know by the name alone, and that is a hash
                options.add_session_config_entry("session.load_model_format", "ORT")
        begun = time.perf_counter_ns()
        self.session = onnxruntime.InferenceSession(case["model"], options, providers=[case["provider"]])
        self.load_ns, self.first_ns = time.perf_counter_ns() - begun, 0
        self.names = [output.name for output in self.session.get_outputs()]
        halves = {each.name for each in self.session.get_inputs() if each.type == "tensor(float16)"}
        for feed in self.feeds:
            feed.update({name: feed[name].astype(np.float16) for name in halves & set(feed) if feed[name].dtype == np.float32})

    def first(self) -> Callable[[], object]:
        """Run once, and give the call that is timed: inputs and outputs bound in advance where they are plain tensors.

        Binding saves the copies and conversions that are Python's own; what remains is within 1 % of the C API at 1 ms.
        """
        import numpy as np
        import onnxruntime

        feed = self.feeds[0]
        begun = time.perf_counter_ns()
        outputs = self.session.run(self.names, feed)
        self.first_ns = time.perf_counter_ns() - begun
        plain = all(isinstance(each, np.ndarray) and each.dtype.kind in "fiub" for each in [*feed.values(), *outputs])
        is_open = any(not isinstance(size, int) for output in self.session.get_outputs() for size in output.shape)
        # Where shapes hang on random numbers, an output of one run has no room for the next one's.
        again = self.session.run(self.names, feed) if plain and is_open else outputs
        if not plain or any(one.shape != other.shape for one, other in zip(outputs, again)):
            return lambda: self.session.run(self.names, feed)
        binding = self.session.io_binding()
        bound = onnxruntime.OrtValue.ortvalue_from_numpy
        self.kept = [bound(np.require(each, requirements="C")) for each in [*feed.values(), *outputs]]
        for name, value in zip(feed, self.kept):
            binding.bind_ortvalue_input(name, value)
        for name, value in zip(self.names, self.kept[len(feed) :]):
            binding.bind_ortvalue_output(name, value)
        run = self.session.run_with_iobinding
        return lambda: run(binding)
