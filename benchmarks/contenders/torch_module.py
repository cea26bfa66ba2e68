"""Contender: torch's nn.LSTM, nn.GRU and nn.RNN, with time-major inputs, which is their default."""

# mypy: disable-error-code="import-untyped, import-not-found"

from typing import Any

import numpy as np
import torch

from layout import SplitWeights, from_split, to_split
from peak import MATMUL_SIZE, best_matmul_rate
from worker import Prepared, Settings
from workload import FloatArray, Workload, make_arrays

_ORDERS = {"lstm": "ifjo", "gru_reset_after": "ruc", "rnn": "h"}


def start(settings: Settings) -> dict[str, Any]:
    """Sets the threads and checks the device; returns the version."""
    torch.set_num_threads(settings.threads)
    if settings.device == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("this torch sees no CUDA device")
    return {"versions": {"torch": torch.__version__}}


def _device(settings: Settings) -> torch.device:
    return torch.device("cuda" if settings.device == "gpu" else "cpu")


def matmul_rate(settings: Settings) -> float:
    """GFLOP/s of a large float32 torch.mm."""
    matrix = torch.rand(MATMUL_SIZE, MATMUL_SIZE, device=_device(settings))

    def product() -> None:
        torch.mm(matrix, matrix)
        _synchronise(settings)

    return best_matmul_rate(product)


def _synchronise(settings: Settings) -> None:
    if settings.device == "gpu":
        torch.cuda.synchronize()


def _module(cell: str, inputs: int, hidden: int) -> torch.nn.RNNBase:
    if cell == "lstm":
        return torch.nn.LSTM(inputs, hidden)
    if cell == "rnn":
        return torch.nn.RNN(inputs, hidden)
    return torch.nn.GRU(inputs, hidden)


def prepare(workload: Workload, settings: Settings) -> Prepared:
    """The module with the workload's weights."""
    return _prepare(workload, settings, forward_only=False)


def prepare_forward(workload: Workload, settings: Settings) -> Prepared:
    """The forward pass of training alone; what it returns holds all that the backward pass will read."""
    return _prepare(workload, settings, forward_only=True)


def _prepare(workload: Workload, settings: Settings, forward_only: bool) -> Prepared:
    cell, order = workload.cell, _ORDERS[workload.cell]
    x_value, weights = make_arrays(cell, workload.case)
    split = to_split(cell, weights, order)
    module = _module(cell, workload.case.inputs, workload.case.hidden)
    # torch's matrices are [G*H, I]; its second bias is the recurrent one.
    state = {"weight_ih_l0": split.kernel.T, "weight_hh_l0": split.recurrent.T}
    state |= {"bias_ih_l0": split.bias, "bias_hh_l0": split.recurrent_bias}
    module.load_state_dict(
        {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in state.items()}
    )
    dtype = getattr(torch, workload.dtype)
    module.to(_device(settings), dtype)
    training = workload.mode == "training"
    x = (
        torch.from_numpy(np.ascontiguousarray(x_value.swapaxes(0, 1)))
        .to(_device(settings), dtype)
        .requires_grad_(training)
    )
    parameters = [module.get_parameter(key) for key in state]

    def infer() -> torch.Tensor:
        with torch.inference_mode():
            y: torch.Tensor = module(x)[0]
        _synchronise(settings)
        return y

    def forward() -> torch.Tensor:
        y: torch.Tensor = module(x)[0]
        return y

    def train() -> tuple[torch.Tensor, ...]:
        y = forward()
        gradients = torch.autograd.grad((y * y).sum(), [x, *parameters])
        _synchronise(settings)
        return y.detach(), *gradients

    def results() -> dict[str, FloatArray]:
        if not training:
            return {"y": infer().float().cpu().numpy().swapaxes(0, 1)}
        y, d_x, d_kernel, d_recurrent, d_bias, d_recurrent_bias = (
            tensor.float().cpu().numpy() for tensor in train()
        )
        gradients = SplitWeights(d_kernel.T, d_recurrent.T, d_bias, d_recurrent_bias)
        return {"y": y.swapaxes(0, 1), "d_x": d_x.swapaxes(0, 1)} | from_split(cell, gradients, order)

    if forward_only:
        return Prepared(forward, results)
    return Prepared(train if training else infer, results)
