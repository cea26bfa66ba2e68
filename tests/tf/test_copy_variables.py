"""copy_variables: which variables it copies, when, and what it says of those that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from fused_rnn import copy_variables
from tf.tensorflow_cells import FUSED, make

v1 = tf.compat.v1


def variable(name: str, value: Any, **options: Any) -> Any:
    return v1.get_variable(name, initializer=tf.constant(value), **options)


def values(session: Any, scope: str) -> dict[str, Any]:
    variables = [v for v in v1.global_variables() if v.op.name.startswith(f"{scope}/")]
    names = [v.op.name.removeprefix(f"{scope}/") for v in variables]
    return dict(zip(names, session.run(variables), strict=True))


def network(scope: str, **options: Any) -> Any:
    """Variables of every kind: ref and resource, partitioned, frozen."""
    with v1.variable_scope(scope, **options) as made:
        x = tf.constant(np.sin(np.arange(24.0)).reshape(2, 4, 3))
        y, _ = fused_rnn.dynamic_rnn(make(FUSED, "GRUCell", 4), x, dtype=tf.float64)
        with v1.variable_scope("halves", partitioner=v1.fixed_size_partitioner(2)):
            y = tf.matmul(y[:, -1], tf.convert_to_tensor(v1.get_variable("weights", [4, 2], tf.float64)))
        variable("mean", 0.5, trainable=False, use_resource=True)
    return made, tf.reduce_sum(y)


@pytest.mark.parametrize("resources", [True, False])
def test_values(resources: bool) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        (online, _), (target, _) = (network(name, use_resource=resources) for name in ("online", "target"))
        copy = copy_variables("online", "target")
        by_object = copy_variables(target, online)
        session.run(v1.global_variables_initializer())
        before, theirs = values(session, "online"), values(session, "target")
        assert any(not np.array_equal(before[name], theirs[name]) for name in before)
        assert session.run(copy) is None
        after = values(session, "target")
        assert set(after) == set(before) >= {"halves/weights/part_1", "mean", "rnn/gru_cell/gates/kernel"}
        for name, value in values(session, "online").items():
            np.testing.assert_array_equal(value, before[name])
            np.testing.assert_array_equal(after[name], value)
        session.run([v.assign(tf.zeros_like(v)) for v in v1.global_variables("target/")])
        session.run(by_object)
        assert not any(value.any() for value in values(session, "online").values())


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_what_optimizers_keep_stays(inside: bool, frozen: bool) -> None:
    """Beside the weights, in a scope inside theirs, in both scopes or, where one is a frozen copy, in one."""
    with tf.Graph().as_default(), v1.Session() as session:
        trains = []
        for name in ("online", "target"):
            trained = name == "online" or not frozen
            scope, loss = network(name, **({} if trained else {"custom_getter": freeze}))
            if trained:
                with v1.variable_scope(scope) if inside else tf.name_scope("train"):
                    trains.append(v1.train.AdamOptimizer(0.1).minimize(loss))
        there, back = copy_variables("online", "target"), copy_variables("target", "online")
        session.run(v1.global_variables_initializer())

        def of(scope: str, *, slots: bool) -> dict[str, Any]:
            return {name: v for name, v in values(session, scope).items() if ("/Adam" in name) == slots}

        for copy, src, dst in ((there, "online", "target"), (back, "target", "online")):
            session.run(trains)
            slots, weights = [of(scope, slots=True) for scope in (src, dst)], of(src, slots=False)
            kept = {"online": 12, "target": 0 if frozen else 12}
            assert [len(found) for found in slots] == [kept[src], kept[dst]]
            assert len(weights) == 7
            session.run(copy)
            np.testing.assert_equal([of(scope, slots=True) for scope in (src, dst)], slots)
            np.testing.assert_equal([of(scope, slots=False) for scope in (src, dst)], [weights, weights])


def freeze(getter: Any, *args: Any, **options: Any) -> Any:
    return getter(*args, **options | {"trainable": False})


@pytest.mark.parametrize("resources", [False, True])
def test_after_what_it_waits_for(resources: bool) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        for name in ("a", "b"):
            with v1.variable_scope(name, use_resource=resources):
                variable("w", [1.0] * 1000)
        w = v1.global_variables()[0]
        with tf.control_dependencies([w.assign_add([1.0] * 1000)]):
            copy = copy_variables("a", "b")
        session.run(v1.global_variables_initializer())
        for run in range(2, 30):
            session.run(copy)
            assert set(values(session, "b")["w"]) == {run}


def test_scopes_inside_each_other() -> None:
    """The weights of a whole graph, kept in a scope of it, and back."""
    with tf.Graph().as_default(), v1.Session() as session:
        for scope, value in (("", 1.0), ("best", 2.0), ("best/of", 3.0)):
            with v1.variable_scope(scope):
                variable("w", value)
                variable("layer/w", 10 * value)
        copies = {pair: copy_variables(*pair) for pair in (("best", "best/of"), ("best/of", "best"))}
        session.run(v1.global_variables_initializer())

        def all_values() -> list[float]:
            return session.run(v1.global_variables())

        session.run(copies["best", "best/of"])
        assert all_values() == [1, 10, 2, 20, 2, 20]
    with tf.Graph().as_default(), v1.Session() as session:
        for scope in ("", "best/"):
            with v1.variable_scope(scope.strip("/")):
                variable("w", 1.0 + len(scope))
        session.run(v1.global_variables_initializer())
        session.run(copy_variables("best/", ""))
        assert session.run(v1.global_variables()) == [6, 6]


def test_all_that_is_wrong_in_one_error() -> None:
    with tf.Graph().as_default():
        with v1.variable_scope("online"):
            variable("kernel", np.zeros([3, 4], np.float32))
            variable("bias", np.zeros([4], np.float32))
            variable("only/here", 1.0)
            variable("steps", 1, trainable=False)  # has no partner and needs none
        with v1.variable_scope("target"):
            variable("kernel", np.zeros([4, 3], np.float32))
            variable("bias", np.zeros([4], np.float64))
            variable("only/there", 1.0)
        with pytest.raises(ValueError, match="src_scope 'online' and dst_scope 'target' differ:") as error:
            copy_variables("online", "target")
    assert str(error.value).splitlines()[1:] == [
        "  online/only/here has no partner target/only/here",
        "  target/only/there has no partner online/only/there",
        "  online/kernel is float32 (3, 4), but target/kernel is float32 (4, 3)",
        "  online/bias is float32 (4,), but target/bias is float64 (4,)",
    ]


def test_a_frozen_copy_needs_all_its_partners() -> None:
    with tf.Graph().as_default():
        for scope, names in (("online", "w"), ("frozen", "wv")):
            with v1.variable_scope(scope):
                for name in names:
                    variable(name, 1.0, trainable=scope == "online")
        for scopes in (("online", "frozen"), ("frozen", "online")):
            with pytest.raises(ValueError, match="frozen/v has no partner online/v"):
                copy_variables(*scopes)


def test_wrong_scopes() -> None:
    with tf.Graph().as_default():
        with v1.variable_scope("here"):
            variable("w", 1.0)
        for scopes, message in (
            (("here", "nowhere"), "dst_scope: there are no variables in 'nowhere'"),
            (("her", "here"), "src_scope: there are no variables in 'her'"),
            (("here", "here/"), "src_scope and dst_scope are the same, 'here'"),
        ):
            with pytest.raises(ValueError, match=message):
                copy_variables(*scopes)
        with pytest.raises(
            TypeError, match="src_scope must be a variable scope or the name of one, got None"
        ):
            copy_variables(None, "here")


def test_where_there_are_no_scopes() -> None:
    with pytest.raises(RuntimeError, match="copy_variables finds the variables of a scope in a v1 graph"):
        copy_variables("a", "b")
    with pytest.raises(RuntimeError, match="assign the variables one by one"):
        tf.function(lambda: copy_variables("a", "b"))()
