"""The fused cells in place of TensorFlow's: values and every gradient, whoever owns the time loop."""

from __future__ import annotations

import pytest

from cases import DTYPES, Case
from compare import assert_close
from tf.cell_runs import (
    Loop,
    bare_calls,
    expected,
    of_kind,
    raw_loop,
    run_cell,
    static_loop,
    tensorflow_loop,
)
from tf.evaluate import MODES
from tf.tensorflow_cells import FUSED, KINDS

pytestmark = pytest.mark.drop_in

ODD = Case("odd", "", T=5, B=3, I=7, H=17, forget_bias=1.0)
SHAPES = (
    ODD,
    # A forget bias that float32 rounds: float64 needs all its digits.
    Case("one_step", "", T=1, B=3, I=4, H=5, forget_bias=0.3),
    Case("all_ones", "", T=1, B=1, I=1, H=1),
    Case("wide", "", T=2, B=18, I=33, H=65),
    # One step only: large weights over several are chaotic, and which cell errs more is luck.
    Case("saturated", "", T=1, B=5, I=12, H=20, input_scale=30.0, forget_bias=-0.7),
)
LENGTHS = Case("lengths", "", T=5, B=4, I=3, H=9, lengths=(5, 0, 3, 1), forget_bias=1.0)

kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@kinds
@dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_eagerly(kind: str, dtype: str, shape: Case) -> None:
    case = of_kind(kind, shape)
    results = run_cell(FUSED, kind, tensorflow_loop, case, case.inputs(dtype), "eager")
    assert_close(dtype, results, *expected(kind, case, dtype))


@kinds
@dtypes
def test_in_a_graph(kind: str, dtype: str) -> None:
    case = of_kind(kind, ODD)
    results = run_cell(FUSED, kind, tensorflow_loop, case, case.inputs(dtype), "graph")
    assert_close(dtype, results, *expected(kind, case, dtype))


LOOPS = [
    (loop, mode)
    for loop in (tensorflow_loop, static_loop, raw_loop, bare_calls)
    for mode in MODES
    if (loop, mode) != (raw_loop, "eager")  # raw_rnn has no eager form
]


@kinds
@pytest.mark.parametrize(("loop", "mode"), LOOPS, ids=lambda value: getattr(value, "__name__", value))
def test_under_every_loop(kind: str, mode: str, loop: Loop) -> None:
    case = of_kind(kind, ODD if loop is bare_calls else LENGTHS)
    results = run_cell(FUSED, kind, loop, case, case.inputs("float64"), mode)
    assert_close("float64", results, *expected(kind, case, "float64"))


@kinds
def test_shapes_that_a_graph_does_not_know(kind: str) -> None:
    case = of_kind(kind, LENGTHS)
    for loop in (tensorflow_loop, raw_loop):
        results = run_cell(FUSED, kind, loop, case, case.inputs("float64"), "graph", static_shapes=False)
        assert_close("float64", results, *expected(kind, case, "float64"))
