"""What the contenders in a TensorFlow 1 session share: fused_rnn's two routes and TensorFlow's own cells.

Written as TensorFlow 1 scripts are: a graph, dynamic_rnn with batch-major inputs, tf.gradients, a session.
x and the weights are variables, so no contender pays for feeding; nothing but one scalar is copied out, so
none pays for copies either; and calls are prepared, as onnxruntime's binding is: session.run() would look up
in Python what to fetch each time, which takes 0.06 ms.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from peak import MATMUL_SIZE, best_matmul_rate
from worker import Prepared, Settings
from workload import FloatArray, Workload, make_arrays

v1 = tf.compat.v1

Variables = dict[str, Any]  # by the name of the weight
# (workload, x [B, T, I], weights) -> outputs [B, T, H] and the variables made for the weights
Network = Callable[[Workload, Any, dict[str, FloatArray]], tuple[Any, Variables]]

_CELL_CLASSES = {"lstm": "LSTMCell", "gru": "GRUCell", "rnn": "BasicRNNCell"}
# The weights in the order in which the cells create their variables.
_CELL_WEIGHTS = {
    "lstm": ("kernel", "bias"),
    "gru": ("gate_kernel", "gate_bias", "candidate_kernel", "candidate_bias"),
    "rnn": ("kernel", "bias"),
}


def start_tensorflow(settings: Settings) -> dict[str, Any]:
    """Checks the device; returns the version."""
    if settings.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("TensorFlow sees no GPU")
    return {"versions": {"tensorflow": tf.__version__}}


def start_fused(settings: Settings) -> dict[str, Any]:
    """Checks the device, for TensorFlow and for fused_rnn; returns the version and the build_info()."""
    found = start_tensorflow(settings)
    built = importlib.import_module("fused_rnn").build_info()
    if settings.device == "gpu" and not built["cuda_version"]:
        raise RuntimeError("this fused_rnn was built without CUDA kernels")
    return found | {"build_info": built}


def open_session(settings: Settings, in_caller: bool = False) -> Any:
    """A session on the current graph with the settings' threads, or one that runs ops on the caller's."""
    config = v1.ConfigProto(
        intra_op_parallelism_threads=settings.threads,
        inter_op_parallelism_threads=-1 if in_caller else settings.threads,
        gpu_options=v1.GPUOptions(allow_growth=True),
    )
    return v1.Session(config=config)


def device_of(settings: Settings) -> Any:
    """The scope that places operations on the settings' device."""
    return tf.device(f"/{settings.device.upper()}:0")


def matmul_rate(settings: Settings) -> float:
    """GFLOP/s of a large float32 tf.matmul."""
    with tf.Graph().as_default(), device_of(settings):
        matrix = v1.get_variable("matrix", initializer=tf.random.uniform((MATMUL_SIZE, MATMUL_SIZE)))
        targets = targets_of([tf.matmul(matrix, matrix)])
        with open_session(settings) as session:
            session.run(v1.global_variables_initializer())
            return best_matmul_rate(session.make_callable(targets))


def targets_of(tensors: list[Any]) -> list[Any]:
    """What to run so that all of the tensors are computed, and nothing but a scalar is copied out.

    Each tensor is read by an identity that is itself asked for: an op may skip an output that nothing reads,
    and the graph optimiser drops whatever only control edges lead to. On a GPU, copying out the scalar waits
    for all work before it.
    """
    used = [tf.identity(tensor) for tensor in tensors]
    scalar = v1.get_variable("scalar", initializer=0.0, trainable=False)
    with tf.control_dependencies(used):
        return [*(tensor.op for tensor in used), tf.identity(scalar)]


def run_cell(
    cells: Any, unroll: Callable[..., tuple[Any, Any]], workload: Workload, x: Any
) -> tuple[Any, Variables]:
    """The cell of the module `cells` that the workload asks for, unrolled over x; outputs and variables."""
    name, options = workload.cell, {"forget_bias": 0.0} if workload.cell == "lstm" else {}
    with v1.variable_scope("network") as scope:
        cell = getattr(cells, _CELL_CLASSES[name])(workload.case.hidden, dtype=x.dtype, **options)
        outputs, _ = unroll(cell, x, dtype=x.dtype)
        created = v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, scope=scope.name + "/")
    return outputs, dict(zip(_CELL_WEIGHTS[name], created, strict=True))


def prepare_network(
    network: Network, workload: Workload, settings: Settings, in_caller: bool = False
) -> Prepared:
    """The graph for one workload, its variables set, in a session of its own, see open_session()."""
    x_value, weights = make_arrays(workload.cell, workload.case)
    with tf.Graph().as_default(), device_of(settings):
        dtype = tf.as_dtype(workload.dtype)
        x_variable = v1.get_variable("x", x_value.shape, dtype, trainable=False)
        x = tf.identity(x_variable)
        outputs, variables = network(workload, x, weights)
        results, wanted = {"y": outputs}, [outputs]
        if workload.mode == "training":
            wanted = tf.gradients(tf.reduce_sum(outputs * outputs), [x, *variables.values()])
            results |= dict(zip(["d_x", *(f"d_{key}" for key in variables)], wanted, strict=True))
        targets = targets_of(wanted)
        session = open_session(settings, in_caller)
        session.run(v1.global_variables_initializer())
        values = [(x_variable, x_value), *((variables[key], weights[key]) for key in variables)]
        for variable, value in values:
            value = value.astype(dtype.as_numpy_dtype)
            session.run(variable.initializer, {variable.initializer.inputs[1]: value})

    def fetch() -> dict[str, FloatArray]:
        return {key: value.astype(np.float32) for key, value in session.run(results).items()}

    return Prepared(session.make_callable(targets), fetch)
