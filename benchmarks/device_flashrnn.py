"""A contender where its package is installed: FlashRNN's fused kernel, which compiles itself for each size.

Its recurrence takes x . W + b as an input, so that product is made by torch and timed with it.
"""

# mypy: disable-error-code="import-untyped, import-not-found"

import os
from typing import Any

import torch

from device_build import BUILD
from device_contenders import Data, Tensors, reorder, time_calls, torch_dtype
from layout import ORDERS
from workload import Workload

_ORDER = "ifjo"


class FlashRnn:
    """FlashRNN's LSTM in the layouts of its kernel, so that none of its own transposes is timed."""

    def __init__(self, point: Workload, data: Data) -> None:
        """Compiles the kernel for the point's B and H, which takes minutes."""
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(BUILD / "flashrnn"))
        from flashrnn import FlashRNNConfig, flashrnn  # it looks for CUDA when it is imported

        case = point.case
        self._training, self._inputs, self._hidden = point.mode == "training", case.inputs, case.hidden
        self._run = flashrnn
        self._config = FlashRNNConfig(
            backend="cuda_fused",
            function="lstm",
            num_heads=1,
            head_dim=case.hidden,
            hidden_dim=case.hidden,
            batch_size=case.batch,
            dtype=point.dtype,
            input_shape="TBHDG",
            recurrent_shape="HDGP",
            bias_shape="HDG",
            output_shape="STBHD",
        )
        (way,) = data.directions
        kernel = self._gates_inside(way.kernels[0])  # [I + H, H * 4]
        recurrent = kernel[case.inputs :].T.reshape(1, case.hidden, 4, case.hidden)  # [1, D, G, P]
        bias = self._gates_inside(way.biases[0]).reshape(1, case.hidden, 4)
        states = torch.stack(way.initial_state)[:, None, :, None]  # [S, 1, B, 1, D]
        self._leaves = [
            part.to(torch_dtype(point.dtype)).contiguous().clone().requires_grad_(self._training)
            for part in (data.x, kernel[: case.inputs], recurrent, bias, states)
        ]
        self._d_outputs = [way.d_y, *way.d_final_state]

    @staticmethod
    def _gates_inside(tensor: torch.Tensor) -> torch.Tensor:
        """[..., 4 * H], gates in TensorFlow 1's order -> [..., H * 4]"""
        tensor = reorder(tensor, ORDERS["lstm"], _ORDER)
        return tensor.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)

    @staticmethod
    def _gates_outside(tensor: torch.Tensor) -> torch.Tensor:
        """The way back."""
        tensor = tensor.unflatten(-1, (-1, 4)).transpose(-1, -2).flatten(-2)
        return reorder(tensor, _ORDER, ORDERS["lstm"])

    def _forward(self) -> list[torch.Tensor]:
        x, kernel, recurrent, bias, states = self._leaves
        z = (x @ kernel).unflatten(-1, (1, self._hidden, 4))
        sequence, last = self._run(z, recurrent, bias, states=states, config=self._config)
        return [sequence[0, :, :, 0], last[0, 0, :, 0], last[1, 0, :, 0]]

    def _call(self) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
        if not self._training:
            with torch.no_grad():
                return self._forward(), ()
        results = self._forward()
        return results, torch.autograd.grad(results, self._leaves, self._d_outputs)

    def outputs(self) -> Tensors:
        """Runs once; results in the core's layout."""
        results, gradients = self._call()
        found: dict[str, Any] = dict(
            zip(("y", "final_h", "final_c"), map(torch.detach, results), strict=True)
        )
        if not self._training:
            return found
        d_x, d_kernel, d_recurrent, d_bias, d_states = gradients
        d_recurrent = d_recurrent.reshape(4 * self._hidden, self._hidden).T
        return found | {
            "d_x": d_x,
            "d_kernel": self._gates_outside(torch.cat([d_kernel, d_recurrent])),
            "d_bias": self._gates_outside(d_bias.flatten()),
            "d_initial_h": d_states[0, 0, :, 0],
            "d_initial_c": d_states[1, 0, :, 0],
        }

    def time(self, repeats: int) -> list[float]:
        """Milliseconds of each call."""
        return time_calls(self._call, repeats)
