"""Checkpoints written with TensorFlow's cells in fused ones, and the other way round, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_same_bits
from tf.cell_runs import waves
from tf.evaluate import Arrays
from tf.tensorflow_cells import FUSED, KINDS, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
kinds = pytest.mark.parametrize("kind", KINDS)
directions = pytest.mark.parametrize(
    ("writer", "reader"), [(REFERENCE, FUSED), (FUSED, REFERENCE)], ids=["read", "write"]
)

B, T, H = 2, 3, 6
X = np.random.default_rng(4).standard_normal((B, T, H))


def wrapped(wrapper: str, *args: Any, **options: Any) -> Callable[[Cell], Cell]:
    return lambda cell: make(REFERENCE, wrapper, cell, *args, **options)


WRAPPERS: dict[str, Callable[[Cell], Cell]] = {
    "dropout": wrapped("DropoutWrapper", output_keep_prob=0.5),
    "residual": wrapped("ResidualWrapper"),
    "device": wrapped("DeviceWrapper", "/CPU:0"),
}


def stack(library: ModuleType, kind: str) -> Cell:
    """Of every wrapper, and of wrappers in wrappers."""
    cells = [wrap(make(library, kind, H)) for wrap in WRAPPERS.values()]
    cells += [wrapped("ResidualWrapper")(cells.pop()), make(library, kind, H - 1)]
    return make(REFERENCE, "MultiRNNCell", cells)


def networks(library: ModuleType, kind: str, partitions: int | None) -> None:
    """Cells in all surroundings that give variables names."""
    x = tf.constant(X)
    partitioner = None if partitions is None else v1.fixed_size_partitioner(partitions)
    with v1.variable_scope("model", partitioner=partitioner):
        (fused_rnn if library is FUSED else v1.nn).dynamic_rnn(make(library, kind, H), x, dtype=x.dtype)
        v1.nn.bidirectional_dynamic_rnn(*(make(library, kind, H) for _ in range(2)), x, dtype=x.dtype)
        for cell in (stack(library, kind), make(library, kind, H), make(library, kind, H, name="named")):
            cell(x[:, 0], cell.zero_state(B, x.dtype))


def values(session: Any) -> Arrays:
    variables = {v.op.name: v for v in v1.global_variables()}
    return session.run(variables)


def whole(found: Arrays) -> Arrays:
    """With the parts of each variable joined."""
    joined: dict[str, list[np.ndarray]] = {}
    for name in sorted(found):
        joined.setdefault(name.partition("/part_")[0], []).append(found[name])
    return {name: np.concatenate(parts) if parts[0].ndim else parts[0] for name, parts in joined.items()}


@pytest.mark.parametrize(
    ("kind", "partitions"),
    [
        *((kind, (parts, parts)) for kind in KINDS for parts in (None, 2)),
        ("LSTMCell", (2, None)),
        ("GRUCell", (None, 3)),
    ],
    ids=str,
)
def test_savers(kind: str, partitions: tuple[Any, Any], tmp_path: Path) -> None:
    """From TensorFlow's cells to fused ones and back, partitioned alike, or on one side only."""
    sessions = []
    for seed, (library, parts) in enumerate(zip((REFERENCE, FUSED), partitions, strict=True)):
        with tf.Graph().as_default() as graph:
            v1.set_random_seed(seed)
            quietly(networks, library, kind, parts)
            assert any("part_1" in v.op.name for v in v1.global_variables()) == (parts is not None)
            sessions.append((graph, v1.train.Saver(), v1.Session()))
    for writer, reader in (sessions, sessions[::-1]):
        found: list[Arrays] = []
        for graph, saver, session in (writer, reader):
            with graph.as_default(), session.as_default():
                session.run(v1.global_variables_initializer())
                if graph is writer[0]:
                    path = saver.save(session, str(tmp_path / "model"), write_meta_graph=False)
                else:
                    saver.restore(session, path)
                found.append(whole(values(session)))
        assert_same_bits(found[1], found[0])
        assert_same_bits(found[1], written(path))
        assert len(found[0]) == (4 if kind == "GRUCell" else 2) * 9


@directions
def test_training_goes_on(writer: ModuleType, reader: ModuleType, tmp_path: Path) -> None:
    """From a checkpoint with what the optimizer keeps: as if nothing had been changed."""
    losses: list[list[float]] = []
    for library in (writer, writer, reader):
        with tf.Graph().as_default(), v1.Session() as session, v1.variable_scope("all", initializer=waves):
            v1.set_random_seed(5)
            x = tf.constant(X)
            y, _ = v1.nn.dynamic_rnn(make(library, "LSTMCell", H), x, dtype=x.dtype)
            y, _ = v1.nn.dynamic_rnn(make(library, "GRUCell", H), y, dtype=x.dtype)
            loss = tf.reduce_mean(tf.square(y - x))
            train = v1.train.AdamOptimizer(0.05).minimize(loss)
            saver = v1.train.Saver()
            session.run(v1.global_variables_initializer())
            if not losses:
                session.run([train, loss])
                saver.save(session, str(tmp_path / "model"))
            else:
                saver.restore(session, str(tmp_path / "model"))
            losses.append([session.run([loss, train])[0] for _ in range(5)])
    assert losses[1] == losses[0]
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-9)


def objects(library: ModuleType, kind: str) -> dict[str, Cell]:
    found = {name: wrap(make(library, kind, H)) for name, wrap in WRAPPERS.items()}
    return found | {"cell": make(library, kind, H), "stack": stack(library, kind)}


def call(cells: dict[str, Cell]) -> None:
    for cell in cells.values():
        quietly(cell, tf.constant(X[:, 0]), cell.zero_state(B, tf.float64))


def written(path: str) -> Arrays:
    """Every tensor of a checkpoint file, by its key."""
    reader = tf.train.load_checkpoint(path)
    return {
        key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if not key.startswith("_")
    }


@pytest.mark.drop_in
@kinds
@directions
def test_checkpoints_of_objects(kind: str, writer: ModuleType, reader: ModuleType, tmp_path: Path) -> None:
    """Into cells that have their variables, and into cells that get them only later."""
    first = objects(writer, kind)
    call(first)
    path = tf.train.Checkpoint(**first).write(str(tmp_path / "first"))
    assert len(written(path)) == (4 if kind == "GRUCell" else 2) * 8
    for name in ("early", "late"):
        cells = objects(reader, kind)
        if name == "early":
            call(cells)
        status = tf.train.Checkpoint(**cells).read(path)
        if name == "late":
            call(cells)
        status.assert_consumed()
        assert_same_bits(written(tf.train.Checkpoint(**cells).write(str(tmp_path / name))), written(path))


@kinds
@directions
def test_checkpoints_of_objects_in_graphs(
    kind: str, writer: ModuleType, reader: ModuleType, tmp_path: Path
) -> None:
    """Not of partitioned variables: tf.train.Checkpoint leaves those out, of TensorFlow's cells too."""
    found: list[Arrays] = []
    for library in (writer, reader):
        with tf.Graph().as_default(), v1.Session() as session:
            v1.set_random_seed(len(found))
            cells = objects(library, kind)
            call(cells)
            session.run(v1.global_variables_initializer())
            if library is reader:
                status = tf.train.Checkpoint(**cells).read(str(tmp_path / "0"))
                status.assert_consumed().run_restore_ops()
            path = tf.train.Checkpoint(**cells).write(str(tmp_path / str(len(found))))
            found.append(written(path))
    assert_same_bits(found[1], found[0])
    assert len(found[0]) == (4 if kind == "GRUCell" else 2) * 8
