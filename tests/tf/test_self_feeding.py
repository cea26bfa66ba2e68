"""self_feeding_rnn against a plain loop over TensorFlow's cell, one row of the batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close
from fused_rnn import self_feeding_rnn
from tf.cell_runs import waves
from tf.evaluate import MODES, Arrays, evaluate, with_gradients
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
drop_in = pytest.mark.drop_in
modes = pytest.mark.parametrize("mode", MODES)

B, I, H = 3, 2, 5  # noqa: E741
RNG = np.random.default_rng(8)
SEED = RNG.standard_normal((B, I))
STATES = [RNG.standard_normal((B, H)) for _ in range(3)]
WEIGHTS = RNG.standard_normal((H, I)) / 2
STEPS: dict[str, np.ndarray] = {"of all": np.array(4, np.int32), "of each": np.array([4, 0, 2], np.int64)}


def lstm(library: ModuleType) -> Cell:
    return make(library, "LSTMCell", H)


def gru(library: ModuleType) -> Cell:
    return make(library, "GRUCell", H)


def stack(library: ModuleType) -> Cell:
    return make(REFERENCE, "MultiRNNCell", [make(library, kind, H) for kind in ("BasicLSTMCell", "GRUCell")])


def wavy(getter: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A custom getter: variables whose values depend on their shape only."""
    return getter(*args, **options | {"initializer": waves})


def state_of(cell: Cell, parts: list[Any]) -> Any:
    return tf.nest.pack_sequence_as(cell.state_size, parts)


def fused_loop(cell: Cell, given: dict[str, Any], steps: Any) -> list[Any]:
    def processing(output: Any) -> Any:
        next_input = tf.tanh(tf.matmul(output, given["weights"]))
        return {"next": next_input, "largest": tf.argmax(output, 1), "output": output}, next_input

    state = state_of(cell, [given[f"state[{k}]"] for k in range(parts_of(cell))])
    collected, final = quietly(self_feeding_rnn, cell, given["seed"], state, steps, processing)
    assert collected.pop("largest").dtype == tf.int64
    return [collected["next"], collected["output"], *tf.nest.flatten(final)]


def row_by_row(cell: Cell, given: dict[str, Any], steps: Any) -> list[Any]:
    """Each row in a loop of its own, padded with zeros."""
    counts = np.broadcast_to(steps, [B])
    rows = []
    for b, count in enumerate(counts):
        inputs = given["seed"][b : b + 1]
        state = state_of(cell, [given[f"state[{k}]"][b : b + 1] for k in range(parts_of(cell))])
        padding = [tf.zeros([1, counts.max() - count, width], tf.float64) for width in (I, H)]
        nexts, outputs = [], []
        for _ in range(count):
            with v1.variable_scope("rnn"):
                output, state = quietly(cell, inputs, state)
            inputs = tf.tanh(tf.matmul(output, given["weights"]))
            nexts.append(inputs[:, None])
            outputs.append(output[:, None])
        collected = (tf.concat([*nexts, padding[0]], 1), tf.concat([*outputs, padding[1]], 1))
        rows.append([*collected, *tf.nest.flatten(state)])
    return [tf.concat(parts, 0) for parts in zip(*rows, strict=True)]


def parts_of(cell: Cell) -> int:
    return len(tf.nest.flatten(cell.state_size))


def run(
    build_cell: Callable[[], Cell], loop: Callable[..., Any], mode: str, steps: np.ndarray, **how: bool
) -> Arrays:
    """Outputs, final state, and the gradients of seed, initial state and weights.

    fed: whether the steps are known only when it runs.
    """
    cell = build_cell()
    fed = how.pop("fed", False)
    feeds = {"seed": SEED, "weights": WEIGHTS}
    feeds |= {f"state[{k}]": STATES[k] for k in range(parts_of(cell))}

    def build(given: dict[str, Any]) -> dict[str, Any]:
        named = {name: given[name] for name in feeds}

        def forward() -> list[Any]:
            with v1.variable_scope("model", custom_getter=wavy):
                return loop(cell, given, tf.reshape(given["steps"], steps.shape) if fed else steps)

        T = int(steps.max())
        shapes = [(B, T, I), (B, T, H), *[(B, H)] * parts_of(cell)]
        rng = np.random.default_rng(1)
        d_results = [tf.constant(rng.standard_normal(shape)) for shape in shapes]
        sources = list(named.values())
        results, gradients = with_gradients(
            mode, forward, lambda: [*sources, *cell.trainable_variables], d_results, sources
        )
        found = {f"result[{k}]": result for k, result in enumerate(results)}
        return found | {f"gradient[{k}]": gradient for k, gradient in enumerate(gradients)}

    return evaluate(mode, build, feeds | ({"steps": steps.reshape(-1)} if fed else {}), **how)


@lru_cache
def reference(build_cell: Any, steps: str) -> Arrays:
    return run(lambda: build_cell(REFERENCE), row_by_row, "eager", STEPS[steps])


@drop_in
@pytest.mark.parametrize("build_cell", [lstm, gru, stack])
@modes
@pytest.mark.parametrize("steps", STEPS)
def test_values_and_gradients(build_cell: Any, mode: str, steps: str) -> None:
    expected = reference(build_cell, steps)
    found = run(lambda: build_cell(FUSED), fused_loop, mode, STEPS[steps])
    assert_close("float64", found, expected)


@pytest.mark.parametrize("mode", ["graph", "function", "graph of v1 loops"])
@pytest.mark.parametrize("steps", STEPS)
def test_what_is_known_only_when_it_runs(mode: str, steps: str) -> None:
    """The steps, the size of the batch."""
    expected = reference(stack, steps)
    enabled = v1.control_flow_v2_enabled()
    if mode == "graph of v1 loops":
        v1.disable_control_flow_v2()
    try:
        found = run(
            lambda: stack(FUSED), fused_loop, mode.split()[0], STEPS[steps], fed=True, static_shapes=False
        )
    finally:
        if enabled:
            v1.enable_control_flow_v2()
    assert_close("float64", found, expected)


@modes
@pytest.mark.parametrize("steps", [0, [0, 0, -1]])
@pytest.mark.parametrize("fed", [False, True])
def test_no_steps(mode: str, steps: Any, fed: bool) -> None:
    cell = make(FUSED, "LSTMCell", H)
    state = [STATES[0].astype(np.float32), STATES[1].astype(np.float32)]

    def build(given: dict[str, Any]) -> dict[str, Any]:
        count = tf.reshape(given["steps"], np.shape(steps)) if fed else steps
        outputs, final = self_feeding_rnn(
            cell, given["seed"], (given["c"], given["h"]), count, lambda y: (tf.argmax(y, 1), y[:, :I])
        )
        return {"outputs": outputs, "c": final[0], "h": final[1]}

    feeds: Arrays = {"seed": SEED.astype(np.float32), "c": state[0], "h": state[1]}
    feeds["steps"] = np.array(steps, np.int32).reshape(-1)
    found = evaluate(mode, build, feeds, static_shapes=False)
    assert (found["outputs"].shape, found["outputs"].dtype) == ((B, 0), np.int64)
    np.testing.assert_array_equal(found["c"], state[0])
    np.testing.assert_array_equal(found["h"], state[1])


@modes
def test_no_rows(mode: str) -> None:
    cell = make(FUSED, "GRUCell", I)

    def build(given: dict[str, Any]) -> dict[str, Any]:
        outputs, _ = self_feeding_rnn(cell, given["seed"], None, 3)
        per_row, _ = self_feeding_rnn(cell, given["seed"], None, given["steps"])
        return {"outputs": outputs, "per row": per_row}

    feeds: Arrays = {"seed": np.zeros([0, I]), "steps": np.zeros([0], np.int32)}
    found = evaluate(mode, build, feeds, static_shapes=False)
    assert found["outputs"].shape == (0, 3, I)
    assert found["per row"].shape == (0, 0, I)


def test_the_output_itself() -> None:
    """Without processing, from a zero state."""
    cell = make(FUSED, "GRUCell", I)
    outputs, final = self_feeding_rnn(cell, SEED, None, 3)
    x, state = tf.constant(SEED), cell.zero_state(B, tf.float64)
    for t in range(3):
        x, state = cell(x, state)
        assert_close("float64", {"y": outputs[:, t].numpy()}, {"y": x.numpy()})
    assert_close("float64", {"state": final.numpy()}, {"state": state.numpy()})


@modes
def test_rows_that_have_ended_leave_no_trace(mode: str) -> None:
    """Neither what a row is fed nor what it would feed itself: here both would be NaN."""
    seed = np.where(np.array([[False], [True], [False]]), np.nan, SEED)
    cell = make(FUSED, "LSTMCell", I)

    def build(given: dict[str, Any]) -> dict[str, Any]:
        steps = tf.constant([4, 0, 1])

        def processing(y: Any) -> Any:
            return y + tf.where(tf.equal(rows, 2), tf.constant(np.nan, y.dtype), 0)[:, None]

        rows = tf.range(B)
        results, gradients = with_gradients(
            mode,
            lambda: tf.nest.flatten(self_feeding_rnn(cell, given["seed"], None, steps, processing)),
            lambda: cell.variables,
            [tf.ones([B, 4, I], tf.float64) * tf.constant([1.0, 1, 0], tf.float64)[:, None, None]]
            + [tf.ones([B, I], tf.float64)] * 2,
        )
        return {str(k): value for k, value in enumerate([results[0][0], *results[1:], *gradients])}

    for name, value in evaluate(mode, build, {"seed": seed}).items():
        assert np.isfinite(value).all(), name


@drop_in
def test_variables_are_those_of_dynamic_rnn() -> None:
    """The cell's under "rnn", those of the processing where the call stands, and each once."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = tf.constant(SEED[:, None])

        def readout(output: Any) -> Any:
            with v1.variable_scope("readout", reuse=v1.AUTO_REUSE):
                return tf.matmul(output, v1.get_variable("weights", [H, I], tf.float64))

        def new_readout(output: Any) -> Any:
            return tf.matmul(output, v1.get_variable("weights", [H, I], tf.float64))

        for scope in ("trained", "sampled"):
            with v1.variable_scope(scope):
                if scope == "trained":
                    outputs, _ = fused_rnn.dynamic_rnn(lstm(FUSED), x, dtype=tf.float64)
                    readout(outputs[:, -1])
                else:
                    self_feeding_rnn(lstm(FUSED), x[:, 0], None, 3, readout)
        names = [v.op.name for v in v1.global_variables()]
        assert [n.removeprefix("sampled/") for n in names[3:]] == [
            n.removeprefix("trained/") for n in names[:3]
        ]
        self_feeding_rnn(lstm(FUSED), x[:, 0], None, 3, new_readout, scope="again")
        assert [v.op.name for v in v1.global_variables()][6:] == [
            "again/lstm_cell/kernel",
            "again/lstm_cell/bias",
            "weights",
        ]
        session.run(v1.global_variables_initializer())


@drop_in
@pytest.mark.parametrize("build_cell", [lstm, stack])
@pytest.mark.parametrize("loop", [fused_rnn.dynamic_rnn, v1.nn.dynamic_rnn])
def test_a_trained_cell_goes_on(build_cell: Any, loop: Any) -> None:
    """One cell in dynamic_rnn, and twice here from where that ends: as one run over all of it."""
    with tf.Graph().as_default(), v1.Session() as session:
        cell = build_cell(FUSED)
        x = tf.constant(RNG.standard_normal((B, 4, H)))
        outputs, state = quietly(loop, cell, x, dtype=tf.float64)
        made = v1.global_variables()
        first, state = self_feeding_rnn(cell, outputs[:, -1], state, 2)
        second, _ = self_feeding_rnn(cell, first[:, -1], state, [3] * B)
        assert v1.global_variables() == made
        continued = tf.concat([first, second], 1)
        whole, _ = quietly(
            loop, cell, tf.concat([x, outputs[:, -1:], continued[:, :-1]], 1), dtype=tf.float64
        )
        session.run(v1.global_variables_initializer())
        found, expected = session.run([continued, whole[:, 4:]])
    assert_close("float64", {"y": found}, {"y": expected})


@modes
def test_processing_runs_once_a_step(mode: str) -> None:
    """And what it draws is new in every step, though it has a seed."""
    made: list[Any] = []  # a tf.function makes its variables in its first call only

    def build(given: dict[str, Any]) -> dict[str, Any]:
        if not made:
            made.extend((make(FUSED, "GRUCell", I), v1.Variable(0, use_resource=True)))
        cell, counter = made

        def processing(output: Any) -> Any:
            with tf.control_dependencies([counter.assign_add(1)]):
                return tf.random.uniform(tf.shape(output), dtype=tf.float64, seed=5), tf.identity(output)

        draws, final = self_feeding_rnn(cell, given["seed"], None, 6, processing)
        with tf.control_dependencies([draws, final]):
            return {"draws": draws, "count": counter.read_value()}

    found = evaluate(mode, build, {"seed": SEED})
    assert found["count"] == 6
    assert len(np.unique(found["draws"])) == 6 * B * I


@drop_in
def test_a_stack_whose_variables_a_function_makes() -> None:
    cell = stack(FUSED)

    @tf.function
    def sample(seed: Any, steps: Any) -> Any:
        with v1.variable_scope("model", custom_getter=wavy):
            return quietly(self_feeding_rnn, cell, seed, None, steps, lambda y: y[:, :I])[0]

    with v1.variable_scope("model", custom_getter=wavy):
        expected, _ = quietly(self_feeding_rnn, stack(FUSED), SEED, None, [3, 1, 2], lambda y: y[:, :I])
    for steps in ([3, 1, 2], tf.constant([3, 1, 2])):
        outputs = sample(SEED, steps)
        assert_close("float64", {"y": outputs.numpy()}, {"y": expected.numpy()})


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "seed of a sequence": ({"seed": np.zeros([B, 2, I])}, ValueError, r"seed must be \[B, I\], got shape"),
    "no seed": ({"seed": None}, TypeError, "seed must be a tensor, got None"),
    "half steps": ({"steps": 2.5}, TypeError, "steps must be of an integer type, got float32"),
    "too few steps": ({"steps": [1, 2]}, ValueError, r"steps must be a number or \[B\] .* got shape \(2,\)"),
    "steps of steps": ({"steps": [[1, 2, 3]]}, ValueError, r"steps must be a number or \[B\]"),
    "wide": (
        {"processing": None},
        ValueError,
        r"processing must return the next input, .* got float64 \(3, 5\)",
    ),
    "other dtype": (
        {"processing": lambda y: tf.argmax(y, 1)},
        TypeError,
        "processing must return .* got int64",
    ),
    "number": (
        {"processing": lambda y: (1.0, y[:, :I])},
        ValueError,
        r"processing must return tensors \[B, ",
    ),
    "nothing": ({"processing": lambda y: None}, TypeError, "processing must be a tensor, got None"),
    "state": ({"initial_state": (None, None)}, TypeError, "initial_state must be a tensor, got None"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_wrong_arguments(name: str, mode: str) -> None:
    changes, error, message = WRONG[name]
    arguments = {"seed": SEED, "initial_state": None, "steps": 2, "processing": lambda y: y[:, :I]} | changes
    with (
        tf.Graph().as_default() if mode == "graph" else tf.name_scope("eager"),
        pytest.raises(error, match=message),
    ):
        self_feeding_rnn(lstm(FUSED), **arguments)


def test_wrong_steps_that_show_when_it_runs() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        steps = v1.placeholder(tf.int32, [None])
        outputs, _ = self_feeding_rnn(make(FUSED, "GRUCell", I), SEED, None, steps)
        session.run(v1.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match="steps"):
            session.run(outputs, {steps: [1, 2]})
