"""The contenders of benchmarks/device.py compute the same, in the same layouts: here on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from device_lineup import DRIVERS, TOLERANCES
from device_points import POINT_CELLS, parse_point
from workload import MODES


class SequenceOnTheCpu:
    """Stands in for the core's DeviceSequence, with the same names for what it gives."""

    def __init__(self, cell: str, *given: Any, **options: Any) -> None:
        self._module = pytest.importorskip("fused_rnn_core", reason="the core is not built")
        self._cell, self._given, self._options = cell, given, options
        lstm = cell == "lstm"
        assert options["driver"] in DRIVERS
        self._names = ["kernel", "bias"] if lstm else ["gate_kernel", "candidate_kernel"]
        self._names += [] if lstm else ["gate_bias", "candidate_bias", "recurrent_bias"]
        self._outputs: dict[str, list[np.ndarray]] = {}

    def forward(self, keep: bool) -> None:
        self._how = {"time_major": True, "reverse": self._options["reverse"]}
        self._kept = self._module.sequence_forward(self._cell, *self._given, keep=keep, **self._how)
        y, final_state, _ = self._kept
        states = ["final_h", "final_c"] if self._cell == "lstm" else ["final_h"]
        self._outputs = {"y": y} | self.by_name(states, final_state)

    @staticmethod
    def by_name(names: list[str], arrays: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
        return {name: arrays[k :: len(names)] for k, name in enumerate(names)}

    def backward(self) -> None:
        y, _, saved = self._kept
        d_x, d_kernels, d_biases, d_state = self._module.sequence_backward(
            self._cell,
            *self._given,
            None,
            y,
            saved,
            self._options["d_y"],
            self._options["d_final_state"],
            **self._how,
        )
        kernels = [f"d_{name}" for name in self._names if "kernel" in name]
        biases = [f"d_{name}" for name in self._names if "bias" in name]
        states = ["d_initial_h", "d_initial_c"] if self._cell == "lstm" else ["d_initial_h"]
        self._outputs |= {"d_x": d_x} | self.by_name(kernels, d_kernels) | self.by_name(biases, d_biases)
        self._outputs |= self.by_name(states, d_state)

    def outputs(self) -> dict[str, list[np.ndarray]]:
        return self._outputs

    def time(self, what: str, repeats: int) -> list[float]:
        return [{"inference": 1.0, "forward": 2.0, "backward": 3.0, "training": 5.0}[what]] * repeats


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("directions", ["", ",bidirectional"], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("cell", POINT_CELLS)
def test_contenders_agree(
    cell: str, directions: str, dtype: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layouts and gate orders between the core and torch, on the CPU; every name of the reference's."""
    pytest.importorskip("torch", reason="torch is not installed")
    import device_contenders
    from device_measure import compare

    monkeypatch.setattr(device_contenders, "DEVICE", "cpu")

    class Core:
        DeviceSequence = SequenceOnTheCpu

    point = parse_point(f"{cell},5,6,7,33,{dtype},{mode}{directions}")
    data = device_contenders.make_data(point, seed=3)
    want = device_contenders.reference(point, data)
    of_each, common = (
        {"lstm": (3, 7), "gru_reset_after": (2, 8)}[cell][mode == "training"],
        mode == "training",
    )
    assert len(want) == of_each * point.directions + common
    fused = device_contenders.FusedSequence(Core, point, data, "persistent")  # type: ignore[arg-type]
    both = {"forward": [2.0, 2.0], "backward": [3.0, 3.0]}
    assert (fused.time(1), fused.time_parts(2)) == (([5.0], both) if mode == "training" else ([1.0], {}))
    for contender in (
        fused,
        device_contenders.TorchLayer(point, data, dtype),
    ):
        assert compare(contender.outputs(), want, TOLERANCES[dtype]).status == "ok"
    wrong = {name: tensor.clone() for name, tensor in want.items()}
    wrong["final_h"][0, 0] = float("nan")
    assert compare(wrong, want, TOLERANCES[dtype]).status == "wrong"
