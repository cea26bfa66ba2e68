"""Contenders: an op of one time step, called again and again, beside an empty op with the same inputs; LSTM.

The T steps of the workload are T calls, each with the state of the one before: alone, a call is shorter than
what the time of a session's run varies by. The difference is what a call takes beyond what any op takes.
"""

from functools import partial
from typing import Any

import tensorflow as tf

from contenders.functional import in_function, in_session, start
from fused_rnn import ops
from fused_rnn.cell import Cell
from workload import Workload

__all__ = [
    "empty_in_function",
    "empty_in_session",
    "sequence_in_function",
    "sequence_in_session",
    "start",
    "step_in_function",
    "step_in_session",
]

_LSTM = Cell("lstm", forget_bias=0.0)


def _state(workload: Workload) -> list[Any]:
    """h and c [B, H]"""
    return [tf.zeros((workload.case.batch, workload.case.hidden))] * 2


def _steps(workload: Workload, x: Any, weights: dict[str, Any]) -> list[Any]:
    outputs, state = [], _state(workload)
    for x_step in tf.unstack(x, axis=1):
        state = ops.step(_LSTM, x_step, [weights["kernel"]], [weights["bias"]], state)
        outputs.append(state[0])
    return [tf.stack(outputs, axis=1), *state]


def _sequences(workload: Workload, x: Any, weights: dict[str, Any]) -> list[Any]:
    outputs, state = [], _state(workload)
    for x_step in tf.split(x, workload.case.steps, axis=1):
        given = ops.Sequence(x_step, [weights["kernel"]], [weights["bias"]], state)
        ((y, state),) = ops.sequences(_LSTM, [given], None, time_major=False)
        outputs.append(y)
    return [tf.concat(outputs, axis=1), *state]


def _empties(workload: Workload, x: Any, weights: dict[str, Any]) -> list[Any]:
    outputs, chain = [], [weights["kernel"], weights["bias"], *_state(workload)]
    for x_step in tf.unstack(x, axis=1):
        # All results are used, or the graph optimiser would drop the op.
        output, *chain = tf.identity_n([x_step, *chain])
        outputs.append(output)
    return [tf.stack(outputs, axis=1), *chain]


step_in_session, step_in_function = partial(in_session, _steps), partial(in_function, _steps)
sequence_in_session, sequence_in_function = partial(in_session, _sequences), partial(in_function, _sequences)
empty_in_session, empty_in_function = partial(in_session, _empties), partial(in_function, _empties)
