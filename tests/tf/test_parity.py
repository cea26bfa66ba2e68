"""The parity list: cells, wrappers, loops, lengths and dtypes, values and gradients, beside TensorFlow's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from compare import assert_close
from tf.compositions import CELLS, LOOPS, WRAPPED, expected, run
from tf.tensorflow_cells import FUSED

MATHS = ("BasicRNNCell", "LSTMCell", "GRUCell")


def in_float64() -> Iterator[tuple[str, ...]]:
    """Every cell in every wrapper, with lengths under every loop in both directions, without lengths forward;
    and some wrappers with lengths forward, which is half of what both directions are."""
    for cell, wrapped in product(CELLS, WRAPPED):
        yield cell, wrapped, "forward", "dynamic", "full", "float64"
        for loop in LOOPS["both"]:
            yield cell, wrapped, "both", loop, "lengths", "float64"
    for cell, wrapped, loop in product(CELLS, ("alone", "deep"), LOOPS["forward"]):
        yield cell, wrapped, "forward", loop, "lengths", "float64"


def in_other_dtypes() -> Iterator[tuple[str, ...]]:
    """Every cell by itself, and every wrapper around a cell, in every dtype."""
    for number, (dtype, wrapped) in enumerate(product(("float32", "float16", "bfloat16"), WRAPPED)):
        # So coarse are random numbers of 16 bits that some are below 1e-7.
        if wrapped != "dropout" or dtype == "float32":
            for cell in MATHS if wrapped == "alone" else [MATHS[number % len(MATHS)]]:
                yield cell, wrapped, "both", "dynamic", "lengths", dtype


def parity_list() -> list[Any]:
    """The float64 part runs in the other Keras mode too."""
    in_both_modes = [pytest.param(*case, marks=pytest.mark.drop_in) for case in in_float64()]
    return [*in_both_modes, *in_other_dtypes()]


@pytest.mark.parametrize(("cell", "wrapped", "directions", "loop", "lengths", "dtype"), parity_list())
def test_parity(cell: str, wrapped: str, directions: str, loop: str, lengths: str, dtype: str) -> None:
    case = (cell, wrapped, directions, lengths)
    results = run(FUSED, LOOPS[directions][loop], *case, dtype)
    exact = expected(*case, "float64")
    assert_close(dtype, results, exact, None if dtype == "float64" else expected(*case, dtype))
