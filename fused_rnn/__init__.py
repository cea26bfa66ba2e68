"""Recurrent networks for TensorFlow whose steps, or whole sequences, run in one kernel.

`rnn_cell` holds drop-in cells for `tf.compat.v1.nn.rnn_cell`; `dynamic_rnn` runs them over a sequence in one
op; `lstm`, `gru` and `rnn` are the same as functions of their weights.
"""

from fused_rnn._build import build_info, check_build

check_build()

from fused_rnn import rnn_cell  # noqa: E402 - after the check, which explains what an import error would not
from fused_rnn.accelerate import accelerate  # noqa: E402
from fused_rnn.block_cells import GRUBlockCellV2, LSTMBlockCell, LSTMBlockFusedCell  # noqa: E402
from fused_rnn.functional import gru, lstm, rnn  # noqa: E402
from fused_rnn.loops import bidirectional_dynamic_rnn, dynamic_rnn, raw_rnn  # noqa: E402
from fused_rnn.rnn_cell import LSTMStateTuple  # noqa: E402
from fused_rnn.routes import explain  # noqa: E402
from fused_rnn.self_feeding import self_feeding_rnn  # noqa: E402
from fused_rnn.state import get_state_reset_op, get_state_update_op, get_state_variables  # noqa: E402
from fused_rnn.static_loops import (  # noqa: E402
    static_bidirectional_rnn,
    static_rnn,
    static_state_saving_rnn,
)
from fused_rnn.variables import copy_variables  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "GRUBlockCellV2",
    "LSTMBlockCell",
    "LSTMBlockFusedCell",
    "LSTMStateTuple",
    "accelerate",
    "bidirectional_dynamic_rnn",
    "build_info",
    "copy_variables",
    "dynamic_rnn",
    "explain",
    "get_state_reset_op",
    "get_state_update_op",
    "get_state_variables",
    "gru",
    "lstm",
    "raw_rnn",
    "rnn",
    "rnn_cell",
    "self_feeding_rnn",
    "static_bidirectional_rnn",
    "static_rnn",
    "static_state_saving_rnn",
]
