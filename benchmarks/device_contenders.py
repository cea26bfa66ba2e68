"""Who takes part on a GPU: the core through its DeviceSequence, and torch's layers on cuDNN.

Each is made from the same Data, gives its results by the core's names and in the core's layouts, and is
timed by CUDA events, one pair a call, calls enqueued one after another without waiting.
"""

# mypy: disable-error-code="import-untyped, import-not-found"

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import ml_dtypes
import torch

from layout import ORDERS
from workload import Workload

Tensors = dict[str, torch.Tensor]
DEVICE = "cuda"
SUFFIXES = ("", "_reverse")  # of the names of what belongs to a direction: torch's
_TORCH_ORDERS = {"lstm": "ifjo", "gru_reset_after": "ruc"}


class Prepared(Protocol):
    """A contender ready for one point."""

    def outputs(self) -> Tensors:
        """Runs once; every result by name."""

    def time(self, repeats: int) -> list[float]:
        """Milliseconds of each of `repeats` calls."""


@dataclass
class Data:
    """A point's tensors on the GPU as the core takes them, time-major; fresh random ones for every seed."""

    x: torch.Tensor  # [T, B, I]
    directions: list["Direction"]


@dataclass
class Direction:
    """What belongs to one direction of a layer."""

    kernels: list[torch.Tensor]  # [I + H, gates * H], gates in TensorFlow 1's order
    biases: list[torch.Tensor]
    initial_state: list[torch.Tensor]  # h and, in the LSTM, c: [B, H]
    d_y: torch.Tensor  # [T, B, H]
    d_final_state: list[torch.Tensor]


def torch_dtype(dtype: str) -> torch.dtype:
    """That of the tensors of a point."""
    found: torch.dtype = getattr(torch, "float32" if dtype == "tf32" else dtype)
    return found


def make_data(point: Workload, seed: int) -> Data:
    """Inputs and gradients from a normal distribution, weights as layers start with them."""
    generator = torch.Generator(device=DEVICE).manual_seed(seed)
    dtype, case = torch_dtype(point.dtype), point.case
    T, B, I, H = case.steps, case.batch, case.inputs, case.hidden  # noqa: E741

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=DEVICE, dtype=torch.float32).to(dtype)

    def weight(*shape: int) -> torch.Tensor:
        uniform = torch.rand(shape, generator=generator, device=DEVICE, dtype=torch.float32)
        return ((2 * uniform - 1) / H**0.5).to(dtype)

    lstm = point.cell == "lstm"
    states = 2 if lstm else 1

    def direction() -> Direction:
        return Direction(
            kernels=[weight(I + H, gates * H) for gates in ((4,) if lstm else (2, 1))],
            biases=[weight(gates * H) for gates in ((4,) if lstm else (2, 1, 3))],
            initial_state=[normal(B, H) for _ in range(states)],
            d_y=normal(T, B, H),
            d_final_state=[normal(B, H) for _ in range(states)],
        )

    return Data(normal(T, B, I), [direction() for _ in range(point.directions)])


def reorder(tensor: torch.Tensor, source: str, target: str) -> torch.Tensor:
    """layout.reorder for a torch tensor."""
    blocks = dict(zip(source, tensor.chunk(len(source), dim=-1), strict=True))
    return torch.cat([blocks[gate] for gate in target], dim=-1)


class TorchLayer:
    """torch.nn.LSTM or GRU, on cuDNN."""

    def __init__(self, point: Workload, data: Data, dtype: str) -> None:
        """`dtype` may be another than the point's: then the tensors are converted first."""
        self._cell, self._order = point.cell, _TORCH_ORDERS[point.cell]
        self._training, self._tf32 = point.mode == "training", dtype == "tf32"
        self._dtype = torch_dtype(dtype)
        case = point.case
        make = torch.nn.LSTM if point.cell == "lstm" else torch.nn.GRU
        options: dict[str, Any] = {"bidirectional": point.directions == 2, "device": DEVICE}
        self._module = make(case.inputs, case.hidden, dtype=self._dtype, **options)
        self._module.train(self._training)
        self._parameters: list[torch.Tensor] = []
        for direction, suffix in zip(data.directions, SUFFIXES, strict=False):
            self._load(case.inputs, direction, suffix)
        self._module.flatten_parameters()
        self._x = data.x.to(self._dtype).detach().clone().requires_grad_(self._training)
        self._state = [
            part.clone().requires_grad_(self._training)
            for part in self._stacked(direction.initial_state for direction in data.directions)
        ]
        self._d_outputs = [torch.cat([direction.d_y for direction in data.directions], -1).to(self._dtype)]
        self._d_outputs += self._stacked(direction.d_final_state for direction in data.directions)

    def _stacked(self, states: Iterable[list[torch.Tensor]]) -> list[torch.Tensor]:
        """The states of each direction as torch has them: h and c, [directions, B, H]."""
        return [torch.stack(parts).to(self._dtype) for parts in zip(*states, strict=True)]

    def _load(self, inputs: int, direction: Direction, suffix: str) -> None:
        """Sets the weights; torch's matrices are [G*H, I], its second bias is the recurrent one."""
        order = ORDERS[self._cell]
        kernel = reorder(torch.cat(direction.kernels, dim=1), order, self._order)
        lstm = self._cell == "lstm"
        bias = reorder(torch.cat(direction.biases[: 1 if lstm else 2]), order, self._order)
        recurrent = torch.zeros_like(bias) if lstm else reorder(direction.biases[2], order, self._order)
        values = [kernel[:inputs].T, kernel[inputs:].T, bias, recurrent]
        for name, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), values, strict=True):
            parameter = self._module.get_parameter(f"{name}_l0{suffix}")
            with torch.no_grad():
                parameter.copy_(value)
            self._parameters.append(parameter)

    def _forward(self) -> list[torch.Tensor]:
        state = tuple(self._state) if self._cell == "lstm" else self._state[0]
        y, final = self._module(self._x, state)
        return [y, *(final if self._cell == "lstm" else [final])]

    def _call(self) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Results, and gradients of x, the initial state and the parameters."""
        if not self._training:
            with torch.inference_mode():
                return self._forward(), ()
        results = self._forward()
        inputs = [self._x, *self._state, *self._parameters]
        return results, torch.autograd.grad(results, inputs, self._d_outputs)

    def outputs(self) -> Tensors:
        """Runs once; results in the core's layout."""
        set_tf32(self._tf32)
        (y, *final), gradients = self._call()
        directions = len(self._parameters) // 4
        names, d_state = ("h", "c")[: len(final)], gradients[1 : 1 + len(final)]
        found = {"d_x": gradients[0]} if self._training else {}
        for n, of_direction in enumerate(y.detach().chunk(directions, -1)):
            results = {"y": of_direction}
            results |= {f"final_{name}": part[n].detach() for name, part in zip(names, final, strict=True)}
            if self._training:
                results |= {f"d_initial_{name}": part[n] for name, part in zip(names, d_state, strict=True)}
                results |= self._weight_gradients(*gradients[1 + len(final) + 4 * n :][:4])
            found |= {f"{name}{SUFFIXES[n]}": tensor for name, tensor in results.items()}
        return found

    def _weight_gradients(
        self,
        d_kernel: torch.Tensor,
        d_recurrent: torch.Tensor,
        d_bias: torch.Tensor,
        d_recurrent_bias: torch.Tensor,
    ) -> Tensors:
        order = ORDERS[self._cell]
        kernel = reorder(torch.cat([d_kernel.T, d_recurrent.T]), self._order, order)
        bias = reorder(d_bias, self._order, order)
        if self._cell == "lstm":
            return {"d_kernel": kernel, "d_bias": bias}
        gates = bias.shape[0] * 2 // 3
        return {
            "d_gate_kernel": kernel[:, :gates],
            "d_candidate_kernel": kernel[:, gates:],
            "d_gate_bias": bias[:gates],
            "d_candidate_bias": bias[gates:],
            "d_recurrent_bias": reorder(d_recurrent_bias, self._order, order),
        }

    def time(self, repeats: int) -> list[float]:
        """Milliseconds of each call."""
        set_tf32(self._tf32)
        return time_calls(self._call, repeats)


def set_tf32(allow: bool) -> None:
    """torch's switches, which hold for the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their newer spelling
        torch.backends.cudnn.allow_tf32 = allow
        torch.backends.cuda.matmul.allow_tf32 = allow


def time_calls(call: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each call, by events on the current stream."""
    starts = [torch.cuda.Event(enable_timing=True) for _ in range(repeats)]
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(repeats)]
    for start, end in zip(starts, ends, strict=True):
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)]


def _to_numpy(tensor: torch.Tensor) -> Any:
    tensor = tensor.contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).cpu().numpy().view(ml_dtypes.bfloat16)
    return tensor.cpu().numpy()


def _to_torch(array: Any) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view("int16")).to(DEVICE).view(torch.bfloat16)
    return torch.from_numpy(array).to(DEVICE)


class FusedSequence:
    """The core; `driver` is that of its passes: auto, stepwise or persistent."""

    def __init__(self, core: ModuleType, point: Workload, data: Data, driver: str = "auto") -> None:
        self._training = point.mode == "training"
        options: dict[str, Any] = {
            "time_major": True,
            "allow_tf32": point.dtype == "tf32",
            "driver": driver,
        }
        ways = data.directions
        options["reverse"] = [way is not ways[0] for way in ways]
        if self._training:
            options["d_y"] = [_to_numpy(way.d_y) for way in ways]
            options["d_final_state"] = [_to_numpy(part) for way in ways for part in way.d_final_state]
        self._sequence = core.DeviceSequence(
            point.cell,
            [_to_numpy(data.x)] * len(ways),
            [_to_numpy(part) for way in ways for part in way.kernels],
            [_to_numpy(part) for way in ways for part in way.biases],
            [_to_numpy(part) for way in ways for part in way.initial_state],
            **options,
        )

    def outputs(self) -> Tensors:
        """Runs once; every tensor was NaN before the first run."""
        self._sequence.forward(keep=self._training)
        if self._training:
            self._sequence.backward()
        found: Tensors = {}
        for name, arrays in self._sequence.outputs().items():
            tensors = [_to_torch(array) for array in arrays]
            if name == "d_x":  # of the layer: the sum over its directions
                found[name] = torch.stack([tensor.double() for tensor in tensors]).sum(0)
                continue
            found |= {f"{name}{suffix}": t for suffix, t in zip(SUFFIXES, tensors, strict=False)}
        return found

    def time(self, repeats: int) -> list[float]:
        """Milliseconds of each call."""
        times: list[float] = self._sequence.time("training" if self._training else "inference", repeats)
        return times

    def time_parts(self, repeats: int) -> dict[str, list[float]]:
        """The same of the forward and the backward pass alone; nothing in inference, which has one."""
        parts = ("forward", "backward") if self._training else ()
        return {part: self._sequence.time(part, repeats) for part in parts}


def reference(point: Workload, data: Data) -> Tensors:
    """The right answer: torch's layer in float64, on inputs as the point's dtype has rounded them."""
    return TorchLayer(point, data, "float64").outputs()


def library_rates(size: int = 8192) -> dict[str, float]:
    """flop/s of torch's product of two large random matrices, by dtype: a limit beside device_limits.cu's."""
    rates = {}
    for dtype in ("bfloat16", "float16", "tf32", "float32"):
        set_tf32(dtype == "tf32")
        a, b = (torch.randn(size, size, device=DEVICE).to(torch_dtype(dtype)) for _ in range(2))

        def product(a: torch.Tensor = a, b: torch.Tensor = b) -> torch.Tensor:
            return a @ b

        time_calls(product, 2)
        rates[dtype] = 2 * size**3 / sorted(time_calls(product, 7))[3] * 1e3
    return rates
