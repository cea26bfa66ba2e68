"""Comparison of results with the float64 reference, with the one table of tolerances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """float64: every element within `relative` of its own size plus `of_scale` of the tensor's largest one.

    Other dtypes: the error's norm at most `times_own` the reference's own error at that dtype plus `ulps` of
    the tensor's norm. The second term is for tensors of few elements, where the reference may be lucky.
    """

    relative: float = 0.0
    of_scale: float = 0.0
    times_own: float = 0.0
    ulps: float = 0.0


TOLERANCES = {
    "float64": Tolerance(relative=1e-10, of_scale=1e-12),
    "float32": Tolerance(times_own=2.0, ulps=4.0),
    "float16": Tolerance(times_own=2.0, ulps=2.0),
    "bfloat16": Tolerance(times_own=2.0, ulps=2.0),
}


@dataclass(frozen=True)
class Bound:
    """How far a tensor may be from the expected one: each element by `relative` of its own size plus
    `absolute`, and the whole by an error whose norm is `norm`."""

    relative: float
    absolute: float
    norm: float


def bound_of(dtype: str, expected: np.ndarray, own: np.ndarray | None = None) -> Bound:
    """What TOLERANCES makes of this tensor; arguments as assert_close takes them."""
    tolerance = TOLERANCES[dtype]
    if dtype == "float64":
        absolute = tolerance.of_scale * float(np.abs(expected).max(initial=0.0))
        return Bound(tolerance.relative, absolute, norm=math.inf)
    assert own is not None, "dtypes other than float64 need the reference's own results"
    limits = ml_dtypes.finfo(own.dtype)
    limit = tolerance.times_own * norm(own.astype(np.float64) - expected)
    limit += tolerance.ulps * float(limits.eps) * norm(expected)
    limit += tolerance.ulps * float(limits.smallest_subnormal) * expected.size**0.5
    return Bound(0.0, math.inf, limit)


def assert_close(
    dtype: str,
    actual: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    own: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Every tensor of `actual` against the float64 one of the same name in `expected`.

    own: what the reference gives when it computes in dtype; not needed for float64.
    """
    assert set(actual) == set(expected), f"tensors {sorted(actual)} instead of {sorted(expected)}"
    for name in expected:
        assert actual[name].dtype.name == dtype, f"{name} is {actual[name].dtype}, not {dtype}"
        assert actual[name].shape == expected[name].shape, (
            f"{name}: {actual[name].shape}, not {expected[name].shape}"
        )
        assert_tensor_close(dtype, name, actual[name], expected[name], None if own is None else own[name])


def assert_tensor_close(
    dtype: str, name: str, actual: np.ndarray, expected: np.ndarray, own: np.ndarray | None = None
) -> None:
    if expected.size == 0:
        return
    bound = bound_of(dtype, expected, own)
    wide = actual.astype(np.float64)
    error = np.abs(wide - expected)
    if not np.isfinite(wide).all():
        error[~np.isfinite(wide)] = np.inf
    if dtype == "float64" or own is None:
        limit = bound.relative * np.abs(expected) + bound.absolute
        assert (error <= limit).all(), worst(name, actual, expected, error - limit)
        return
    assert norm(error) <= bound.norm, (
        f"{worst(name, actual, expected, error)}\n"
        f"  norm of the error {norm(error):.3g}, limit {bound.norm:.3g}; "
        f"the reference's own {norm(own.astype(np.float64) - expected):.3g}"
    )


def norm(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).sum()))


def worst(name: str, actual: np.ndarray, expected: np.ndarray, error: np.ndarray) -> str:
    index = tuple(int(k) for k in np.unravel_index(np.argmax(error), error.shape))
    where = f"{name}{list(index)} of shape {list(actual.shape)}"
    return f"{where} is {actual[index]!r}, expected {expected[index]!r}"


def assert_same_bits(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Bitwise equality of every tensor, NaN and the sign of zero included."""
    assert set(actual) == set(expected), f"tensors {sorted(actual)} instead of {sorted(expected)}"
    for name in expected:
        a, b = np.ascontiguousarray(actual[name]), np.ascontiguousarray(expected[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{name}: {a.dtype}{a.shape}, {b.dtype}{b.shape}"
        bits = f"u{a.dtype.itemsize}"
        different = (a.view(bits) != b.view(bits)).astype(np.float64)
        assert not different.any(), (
            f"{worst(name, a, b, different)}: {int(different.sum())} of {a.size} differ in bits"
        )
