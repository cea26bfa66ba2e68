"""What the contenders that compute functions of tensors share: the way into a session or a tf.function."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from contenders.session import device_of, open_session, start_fused, targets_of
from worker import Prepared, Settings
from workload import Workload, make_arrays

v1 = tf.compat.v1

# (workload, x [B, T, I], weights) -> results, the first of them y [B, T, H]
Compute = Callable[[Workload, Any, dict[str, Any]], list[Any]]


def start(settings: Settings) -> dict[str, Any]:
    """Sets the threads of what runs outside of sessions, too; returns the version and the build_info()."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    return start_fused(settings)


def _read(weights: dict[str, Any]) -> dict[str, Any]:
    """The values of the variables, read once: each op that is given a variable would read it again."""
    return {key: tf.identity(variable) for key, variable in weights.items()}


def in_session(compute: Compute, workload: Workload, settings: Settings) -> Prepared:
    """The computation in a graph and a session of its own, of which nothing but a scalar is copied out."""
    x_value, values = make_arrays(workload.cell, workload.case)
    with tf.Graph().as_default(), device_of(settings):
        x = v1.get_variable("x", initializer=x_value)
        weights = {key: v1.get_variable(key, initializer=value) for key, value in values.items()}
        results = compute(workload, tf.identity(x), _read(weights))
        targets = targets_of(results)
        session = open_session(settings)
        session.run(v1.global_variables_initializer())
    return Prepared(session.make_callable(targets), lambda: {"y": session.run(results[0])})


def in_function(compute: Compute, workload: Workload, settings: Settings) -> Prepared:
    """The computation in a tf.function of its own."""
    x_value, values = make_arrays(workload.cell, workload.case)
    with device_of(settings):
        x, weights = tf.Variable(x_value), {key: tf.Variable(value) for key, value in values.items()}

    @tf.function
    def call() -> list[Any]:
        return compute(workload, tf.identity(x), _read(weights))

    return Prepared(call, lambda: {"y": call()[0].numpy()})
