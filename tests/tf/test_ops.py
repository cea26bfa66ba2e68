"""The ops themselves: static shapes, what is kept for gradients, repeatability, control flow, saving."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import fused_rnn_core
import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from cases import DTYPES, Case, name_results
from compare import assert_close, assert_same_bits
from tf.evaluate import MODES, evaluate
from tf.functional_runs import WEIGHTS as CELLS
from tf.functional_runs import call as call_function
from tf.functional_runs import feeds, run
from tf.op_calls import OPS, arguments_of, as_placeholders, call, flat, pair_arguments
from tf.scripts import run_script

v1 = tf.compat.v1
cells = pytest.mark.parametrize("cell", CELLS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

LSTM = Case("ops", "lstm", T=3, B=2, I=4, H=5, lengths=(3, 1), forget_bias=0.3)


def of_cell(cell: str, **changes: Any) -> Case:
    return replace(LSTM, cell=cell, forget_bias=0.3 if cell == "lstm" else 0.0, **changes)


def known_shapes(op: str, **shapes: Any) -> dict[str, Any]:
    """The static shapes of the op's outputs where those of some inputs are only partly known."""
    arguments = arguments_of(LSTM, op)
    with tf.Graph().as_default():
        placeholders, _ = as_placeholders(arguments, static=True)
        for name, shape in shapes.items():
            given = arguments[name]
            if isinstance(given, list):
                placeholders[name] = [v1.placeholder(array.dtype, shape) for array in given]
            else:
                placeholders[name] = v1.placeholder(given.dtype, shape)
        results = call(op, placeholders)._asdict()
        return {
            name: [t.shape.as_list() for t in value] if isinstance(value, list) else value.shape.as_list()
            for name, value in results.items()
        }


def test_known_shapes_of_a_sequence() -> None:
    known = {"outputs": [[2, 3, 5]], "final_state": [[2, 5], [2, 5]], "saved": [[None]]}
    assert known_shapes("sequence") == known
    assert known_shapes("sequence", kernels=None, biases=None) == known
    assert known_shapes("sequence", inputs=[None, 3, 4], initial_state=[None, 5]) == known  # the lengths tell
    assert known_shapes(
        "sequence", inputs=[None, None, 4], initial_state=[None, 5], sequence_length=[None]
    ) == {
        "outputs": [[None, None, 5]],
        "final_state": [[None, 5], [None, 5]],
        "saved": [[None]],
    }
    assert known_shapes("sequence", inputs=[None, 3, 4])["outputs"] == [[2, 3, 5]]
    assert known_shapes("sequence", initial_state=[None, 5])["final_state"] == [[2, 5], [2, 5]]
    assert known_shapes("sequence", inputs=None)["outputs"] == [[2, None, 5]]


def test_known_shapes_of_a_step() -> None:
    assert known_shapes("step") == {"final_state": [[2, 5], [2, 5]], "saved": [None]}
    assert known_shapes("step", inputs=[None, 4])["final_state"] == [[2, 5], [2, 5]]
    assert known_shapes("step", inputs=[None, 4], initial_state=[None, 5])["final_state"] == [[None, 5]] * 2


@pytest.mark.parametrize("op", ["sequence_grad", "step_grad"])
def test_known_shapes_of_gradients(op: str) -> None:
    found = known_shapes(op, kernels=[None, 20], saved=None)
    inputs = [[2, 3, 4]] if op == "sequence_grad" else [2, 4]
    assert found == {
        "d_inputs": inputs,
        "d_kernels": [[None, 20]],
        "d_biases": [[20]],
        "d_initial_state": [[2, 5], [2, 5]],
    }


def test_known_shapes_of_several_sequences() -> None:
    """What one of them tells holds for all."""
    with tf.Graph().as_default():
        arguments = as_placeholders(pair_arguments(LSTM, "sequence"), static=True)[0]
        arguments["inputs"][0] = v1.placeholder(tf.float32, None)
        arguments["initial_state"][3] = v1.placeholder(tf.float32, [None, None])
        results = call("sequence", arguments)
        assert [y.shape.as_list() for y in results.outputs] == [[2, 3, 5]] * 2
        assert [state.shape.as_list() for state in results.final_state] == [[2, 5]] * 4
        arguments["initial_state"][2] = v1.placeholder(tf.float32, [None, 6])
        with pytest.raises(ValueError, match="initial_state h must have 5 columns, got 6"):
            call("sequence", arguments)


@pytest.mark.parametrize("op", ["sequence", "step"])
def test_known_shapes_that_clash(op: str) -> None:
    for shapes in ({"inputs": [7, 3, 4] if op == "sequence" else [7, 4]}, {"inputs": [2, 3, 4, 1]}):
        with pytest.raises(ValueError, match=r"inputs|[Dd]imension|[Ss]hape"):
            known_shapes(op, kernels=None, **shapes)


@cells
@dtypes
@pytest.mark.parametrize("op", ["sequence", "step"])
def test_saved_is_empty_without_keep(cell: str, dtype: str, op: str) -> None:
    """And the results are the same to the bit."""
    arguments = arguments_of(of_cell(cell), op, dtype)
    kept, plain = call(op, arguments), call(op, arguments | {"keep": False})
    bytes_kept, bytes_plain = (tf.nest.flatten(results.saved)[0].shape[0] for results in (kept, plain))
    assert bytes_plain == 0
    assert (bytes_kept > 0) == (cell != "rnn")  # which needs no more than its outputs
    first, second = (
        name_results(output=[t.numpy() for t in flat(results)[:-1]]) for results in (kept, plain)
    )
    assert_same_bits(second, first)


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_kept_eagerly(recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while a tape records."""
    kept = []
    library = fused_rnn.ops._library
    original = library.fused_rnn_sequence

    def spy(*args: Any, **kwargs: Any) -> Any:
        results = original(*args, **kwargs)
        kept.append(results.saved[0].shape[0] > 0)
        return results

    monkeypatch.setattr(library, "fused_rnn_sequence", spy)
    given = {name: tf.constant(array) for name, array in feeds(LSTM, LSTM.inputs()).items()}
    call_function(LSTM, given, time_major=True)
    with tf.GradientTape() as tape:
        tape.watch(given["inputs"])
        with contextlib.nullcontext() if recorded else tape.stop_recording():
            call_function(LSTM, given, time_major=True)
    assert kept == [False, recorded]


def memory_of_the_forward_op(case: Case, *, gradient: bool) -> tuple[int, int, int]:
    """Bytes of the outputs, of what is saved, and of everything else that the op allocates: its workspace."""
    options, metadata = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE), v1.RunMetadata()
    with tf.Graph().as_default(), v1.Session() as session:
        arguments = feeds(case, case.inputs("float32"))
        given = {name: v1.placeholder(array.dtype, array.shape) for name, array in arguments.items()}
        outputs, _ = call_function(case, given, time_major=True)
        fetched = tf.gradients(outputs, given["inputs"]) if gradient else outputs
        fed = {given[name]: array for name, array in arguments.items()}
        session.run(fetched, fed, options=options, run_metadata=metadata)
        (name,) = (op.name for op in session.graph.get_operations() if op.type == "FusedRnnSequence")
    nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
    (node,) = (node for node in nodes if node.node_name.split()[0] == name)
    sizes = [output.tensor_description.allocation_description.requested_bytes for output in node.output]
    return sizes[0], sizes[-1], sum(memory.total_bytes for memory in node.memory) - sum(sizes)


@cells
def test_no_reserve_in_inference(cell: str) -> None:
    """Nothing is saved unless a gradient is asked for, and what a longer sequence adds to the workspace is
    bookkeeping for each step and nothing of the gates' size."""
    case = Case("reserve", cell, T=512, B=8, I=4, H=32)
    row = case.B * case.H * 4
    outputs, saved, workspace = memory_of_the_forward_op(case, gradient=False)
    assert (outputs, saved) == (case.T * row, 0)
    _, _, longer = memory_of_the_forward_op(replace(case, T=9 * case.T), gradient=False)
    assert longer - workspace < 8 * outputs / 10
    _, saved, _ = memory_of_the_forward_op(case, gradient=True)
    assert saved == outputs * fused_rnn_core.cell_info(cell)["saved"]


@cells
@dtypes
def test_two_gradients_agree_to_the_bit(cell: str, dtype: str) -> None:
    case = of_cell(cell, T=20, B=19, I=20, H=33, lengths=None)
    inputs = case.inputs(dtype)
    given = {name: tf.constant(array) for name, array in feeds(case, inputs).items()}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        outputs, _ = call_function(case, given, time_major=True)
    first, second = (
        {name: g.numpy() for name, g in tape.gradient(outputs, given, inputs.d_y).items() if g is not None}
        for _ in range(2)
    )
    assert_same_bits(first, second)


@cells
@dtypes
def test_run_to_run(cell: str, dtype: str) -> None:
    """On all of TensorFlow's threads."""
    for shape in ({"B": 37, "H": 33}, {"B": 2, "H": 190}):
        case = of_cell(cell, T=20, I=20, lengths=None, **shape)
        inputs = case.inputs(dtype)
        expected = run(case, inputs, "eager")
        assert_close(dtype, expected, *case.expected(dtype))
        for mode in ("eager", "eager", "function"):
            assert_same_bits(run(case, inputs, mode), expected)


def looped(given: dict[str, Any], case: Case) -> Any:
    """Runs a sequence over its own outputs, three times."""

    def body(k: Any, inputs: Any) -> tuple[Any, Any]:
        outputs, _ = call_function(case, given | {"inputs": inputs}, time_major=True)
        return k + 1, outputs

    start = tf.constant(0), given["inputs"]
    return tf.while_loop(
        lambda k, _: k < 3, body, start, shape_invariants=(tf.TensorShape([]), start[1].shape)
    )[1]


def unrolled(given: dict[str, Any], case: Case) -> Any:
    inputs = given["inputs"]
    for _ in range(3):
        inputs, _ = call_function(case, given | {"inputs": inputs}, time_major=True)
    return inputs


def branched(given: dict[str, Any], case: Case) -> Any:
    """One branch takes a sequence, the other does not."""
    inputs = given["inputs"]

    def fused() -> Any:
        return call_function(case, given, time_major=True)[0]

    positive = tf.cond(tf.reduce_sum(inputs) > -1e9, fused, lambda: inputs)
    return tf.cond(tf.reduce_sum(inputs) > 1e9, fused, lambda: positive)


def straight(given: dict[str, Any], case: Case) -> Any:
    return call_function(case, given, time_major=True)[0]


@cells
@pytest.mark.parametrize("mode", [*MODES, "graph of v1 loops"])
@pytest.mark.parametrize(("build", "plain"), [(looped, unrolled), (branched, straight)])
def test_control_flow(cell: str, mode: str, build: Any, plain: Any) -> None:
    case = of_cell(cell, I=5)
    inputs = case.inputs()

    def with_gradient(function: Any) -> Any:
        def both(given: dict[str, Any]) -> dict[str, Any]:
            if mode == "function" or tf.executing_eagerly():
                with tf.GradientTape() as tape:
                    tape.watch(given)
                    y = function(given, case)
                gradients = tape.gradient(y, given, inputs.d_y)
            else:
                y = function(given, case)
                gradients = dict(
                    zip(given, tf.gradients(y, list(given.values()), grad_ys=inputs.d_y), strict=True)
                )
            found = {f"d_{name}": g for name, g in gradients.items() if g is not None}
            return {"y": y, **{name: tf.convert_to_tensor(g) for name, g in found.items()}}

        return both

    enabled = v1.control_flow_v2_enabled()
    if mode == "graph of v1 loops":
        v1.disable_control_flow_v2()
    try:
        found = evaluate(mode.split()[0], with_gradient(build), feeds(case, inputs))
    finally:
        if enabled:
            v1.enable_control_flow_v2()
    expected = evaluate("eager", with_gradient(plain), feeds(case, inputs))
    assert_close("float64", found, {name: expected[name] for name in expected})


@cells
def test_recomputed_gradients(cell: str) -> None:
    """tf.recompute_grad runs the forward op again, under a tape of its own."""
    case = of_cell(cell)
    inputs = case.inputs()
    given = {name: tf.constant(array) for name, array in feeds(case, inputs).items()}
    weights = [name for name in given if name not in ("inputs", "sequence_length")]

    def forward(x: Any, *values: Any) -> Any:
        return call_function(
            case, given | {"inputs": x} | dict(zip(weights, values, strict=True)), time_major=True
        )[0]

    found = []
    for function in (forward, tf.recompute_grad(forward)):
        sources = [given["inputs"], *(given[name] for name in weights)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = function(*sources)
        found.append(name_results(d=[g.numpy() for g in tape.gradient(y, sources, inputs.d_y)]))
    assert_same_bits(found[1], found[0])


@cells
def test_saved_model(cell: str, tmp_path: Path) -> None:
    """Written here, and read where nothing else but the package has been imported."""
    case = of_cell(cell)
    given = feeds(case, case.inputs())

    class Model(tf.Module):
        @tf.function
        def __call__(self, given: dict[str, Any]) -> Any:
            return call_function(case, given, time_major=True)[0]

    model = Model()
    expected = model({name: tf.constant(array) for name, array in given.items()}).numpy()
    tf.saved_model.save(model, str(tmp_path / "model"))
    np.save(tmp_path / "given.npy", given, allow_pickle=True)  # type: ignore[arg-type]  # a dict is an object
    run_script(
        f"""
import numpy as np
import tensorflow as tf
import fused_rnn
model = tf.saved_model.load({str(tmp_path / "model")!r})
arrays = np.load({str(tmp_path / "given.npy")!r}, allow_pickle=True).item()
given = {{name: tf.constant(array) for name, array in arrays.items()}}
with tf.GradientTape() as tape:
    tape.watch(given["inputs"])
    outputs = model(given)
np.save({str(tmp_path / "outputs.npy")!r}, outputs.numpy())
np.save({str(tmp_path / "d_inputs.npy")!r}, tape.gradient(outputs, given["inputs"]).numpy())
"""
    )
    assert_same_bits({"y": np.load(tmp_path / "outputs.npy")}, {"y": expected})
    inputs = replace(
        case.inputs(), d_y=np.ones_like(expected), d_final_state=[0 * d for d in case.inputs().d_final_state]
    )
    d_x = case.reference(inputs)["d_x"]
    assert_close("float64", {"d_x": np.load(tmp_path / "d_inputs.npy")}, {"d_x": d_x})


def test_every_op_is_documented() -> None:
    for op in OPS:
        assert getattr(fused_rnn.ops._library, f"fused_rnn_{op}").__doc__
