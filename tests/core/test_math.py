"""sigmoid and tanh over their whole range, through cells of one unit that show them bare."""

from __future__ import annotations

import numpy as np
import pytest

from cases import Array
from core.sequence import open_route
from reference import CELLS

ULPS = {"float32": 2.0, "float64": 2.5}
DTYPES: dict[str, type[np.floating]] = {"float32": np.float32, "float64": np.float64}
pytestmark = [
    pytest.mark.every_target,
    pytest.mark.parametrize("dtype", DTYPES),
    pytest.mark.skipif(
        np.finfo(np.longdouble).eps == np.finfo(np.float64).eps,
        reason="no wider type to compare float64 with",
    ),
]


def points(dtype: str) -> Array:
    """Every size from the smallest number to where the functions are flat, and closely around 0 and 1."""
    limits = np.finfo(DTYPES[dtype])
    sizes = np.concatenate(
        [
            np.geomspace(float(limits.tiny), 1e-3, 4000),
            np.geomspace(1e-3, 30.0, 40000),
            np.linspace(0.0, 100.0, 20011),
            [float(limits.tiny), float(limits.smallest_subnormal), 700.0, 1e4, float(limits.max)],
        ]
    )
    return np.concatenate([sizes, -sizes]).astype(DTYPES[dtype])


def step(cell: str, z: Array, initial: float, weights: tuple[float, ...] = (1.0, 1.0)) -> Array:
    """One step of a cell of one unit: x = z, h = initial, no recurrence. weights: of x, by kernel."""
    dtype = z.dtype
    kernel_gates = CELLS[cell].kernel_gates
    kernels = [np.array([[w] * g, [0.0] * g], dtype) for w, g in zip(weights, kernel_gates, strict=False)]
    biases = [np.zeros(g, dtype) for g in kernel_gates]
    y, _, _ = open_route("cpu").module.sequence_forward(
        cell, z[None, :, None], kernels, biases, [np.full((len(z), 1), initial, dtype)], time_major=True
    )
    return y[0, :, 0]


def assert_within_ulps(z: Array, actual: Array, exact: Array) -> None:
    """exact: in long double. An ulp is the gap between neighbours there, at least that at `tiny`."""
    limits = np.finfo(actual.dtype)
    gaps = np.spacing(np.maximum(np.abs(exact.astype(actual.dtype)), limits.tiny)).astype(np.longdouble)
    error = np.abs(actual.astype(np.longdouble) - exact) / gaps
    worst = int(np.argmax(error))
    assert error[worst] <= ULPS[actual.dtype.name], (
        f"at {z[worst]!r}: {actual[worst]!r}, exactly {exact[worst]!r}; {error[worst]:.2f} ulp"
    )


def test_tanh(dtype: str) -> None:
    z = points(dtype)
    assert_within_ulps(z, step("rnn", z, 0.0), np.tanh(z.astype(np.longdouble)))


def test_sigmoid(dtype: str) -> None:
    z = points(dtype)
    with np.errstate(over="ignore"):
        exact = 1 / (1 + np.exp(-z.astype(np.longdouble)))
    y = step("gru", z, 1.0, weights=(1.0, 0.0))  # c = 0 and h = 1: what is left is sigmoid(z)
    # Where the value is below every normal number, what comes out is about as small, no more.
    tiny = np.finfo(DTYPES[dtype]).tiny
    normal = exact >= tiny
    assert_within_ulps(z[normal], y[normal], exact[normal])
    assert (y[~normal] >= 0).all() and (y[~normal] <= 2 * tiny).all()


def test_tanh_keeps_the_sign_and_the_order(dtype: str) -> None:
    z = np.sort(points(dtype))
    y = step("rnn", z, 0.0)
    assert_within_ulps(z, y, -step("rnn", -z, 0.0).astype(np.longdouble))
    assert (np.abs(y) <= 1).all()


def test_infinity_and_nan(dtype: str) -> None:
    z = np.array([np.inf, -np.inf, np.nan], DTYPES[dtype])
    y = step("rnn", z, 0.0)
    assert y[0] == 1 and y[1] == -1 and np.isnan(y[2])
    # r = u = sigmoid(z), c = tanh(z): u = 1 keeps h and u = 0 takes c.
    y = step("gru", z, 0.5)
    assert y[0] == 0.5 and y[1] == -1 and np.isnan(y[2])
