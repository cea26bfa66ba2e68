"""Contender: onnxruntime on a graph of one node; inference only; time-major, all that its CPU kernels take.

Inputs are bound once and outputs stay where onnxruntime allocates them, so that no call pays for a copy.
"""

# mypy: disable-error-code="import-untyped, import-not-found"

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from layout import to_split
from worker import Prepared, Settings
from workload import FloatArray, Workload, make_arrays

_ORDERS = {"lstm": "iofj", "gru": "urc", "gru_reset_after": "urc", "rnn": "h"}
_NODES = {"lstm": "LSTM", "gru": "GRU", "gru_reset_after": "GRU", "rnn": "RNN"}
# Old enough for every onnxruntime of the last years, new enough for these nodes.
_OPSET, _IR_VERSION = 14, 8


def start(_settings: Settings) -> dict[str, Any]:
    """Returns the versions."""
    return {"versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}}


def _model(workload: Workload, weights: dict[str, FloatArray]) -> bytes:
    """x [T, B, I] -> y [T, 1, B, H]"""
    case = workload.case
    split = to_split(workload.cell, weights, _ORDERS[workload.cell])
    constants = {
        "W": split.kernel.T[None],  # [1, G*H, I]
        "R": split.recurrent.T[None],  # [1, G*H, H]
        "B": np.concatenate([split.bias, split.recurrent_bias])[None],  # [1, 2*G*H]
    }
    attributes: dict[str, Any] = {"hidden_size": case.hidden}
    if _NODES[workload.cell] == "GRU":
        attributes["linear_before_reset"] = int(workload.cell == "gru_reset_after")
    node = helper.make_node(_NODES[workload.cell], ["x", *constants], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [case.steps, case.batch, case.inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [case.steps, 1, case.batch, case.hidden])],
        [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())


def prepare(workload: Workload, settings: Settings) -> Prepared:
    """A session on the one-node graph with the workload's weights."""
    x, weights = make_arrays(workload.cell, workload.case)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1  # one node: nothing to run beside it
    session = onnxruntime.InferenceSession(
        _model(workload, weights), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("x", np.ascontiguousarray(x.swapaxes(0, 1)))
    binding.bind_output("y")

    def results() -> dict[str, FloatArray]:
        session.run_with_iobinding(binding)
        return {"y": binding.copy_outputs_to_cpu()[0][:, 0].swapaxes(0, 1)}

    return Prepared(lambda: session.run_with_iobinding(binding), results)
