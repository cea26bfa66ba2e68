"""The ops called from several threads at once, on thread pools of every size: right results, no deadlock."""

from __future__ import annotations

import pytest

from tf.scripts import run_script

# Sequences that the CPU driver shares by rows and by units, compared with what a single thread got before.
# Small T: it is the meetings of the threads that count. The step goes by the op of steps, and is shared too.
SCRIPT = """
import threading
import numpy as np
import tensorflow as tf
import fused_rnn
from cases import Case
from fused_rnn import ops
from fused_rnn.cell import Cell
from tf.functional_runs import call, feeds

v1 = tf.compat.v1
intra, inter = {intra}, {inter}
tf.config.threading.set_intra_op_parallelism_threads(intra)
tf.config.threading.set_inter_op_parallelism_threads(max(inter, 0))

CASES = [
    Case("rows", "lstm", T=12, B=37, I=20, H=33, forget_bias=1.0),
    Case("units", "gru", T=12, B=2, I=20, H=190),
    Case("units", "gru_reset_after", T=12, B=1, I=20, H=190),
    Case("step", "lstm", T=1, B=33, I=80, H=200),
]


def outputs(case, given):
    if case.T > 1:
        return call(case, given, time_major=True)[0]
    cell = Cell("lstm", forget_bias=case.forget_bias)
    inputs, *rest = (tf.convert_to_tensor(given[name]) for name in ("inputs", "kernel", "bias", "h", "c"))
    return ops.step(cell, inputs[0], rest[:1], rest[1:2], rest[2:])[0]


def session_and_fetches(case):
    graph = tf.Graph()
    with graph.as_default():
        arrays = feeds(case, case.inputs())
        given = {{name: v1.placeholder(array.dtype, array.shape) for name, array in arrays.items()}}
        fetches = []
        # Several that do not wait for one another, so that one session runs them side by side too.
        for factor in (1.0, 0.5, 0.25):
            y = outputs(case, given | {{"inputs": factor * given["inputs"]}})
            fetches += [y, *tf.gradients(y, [given["inputs"], given["h"]])]
    config = v1.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
    session = v1.Session(graph=graph, config=config)
    return session, fetches, {{given[name]: array for name, array in arrays.items()}}


prepared = [session_and_fetches(case) for case in CASES]
expected = [session.run(fetches, fed) for session, fetches, fed in prepared]
failures = []


def work(first):
    for round in range(12):
        k = (first + round) % len(CASES)
        session, fetches, fed = prepared[k]
        for found, right in zip(session.run(fetches, fed), expected[k]):
            if found.tobytes() != right.tobytes():
                failures.append(str(CASES[k]))


def work_eagerly(first):
    for round in range(12):
        k = (first + round) % len(CASES)
        given = feeds(CASES[k], CASES[k].inputs())
        y = outputs(CASES[k], given)
        if y.numpy().tobytes() != expected[k][0].tobytes():
            failures.append(f"{{CASES[k]}} eagerly")


threads = [threading.Thread(target=target, args=(k,)) for k in range(4) for target in (work, work_eagerly)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
print("done")
"""


@pytest.mark.parametrize(("intra", "inter"), [(1, 1), (2, 1), (2, -1), (1, 2), (4, 4), (3, 8)])
def test_from_several_threads(intra: int, inter: int) -> None:
    printed = run_script(SCRIPT.format(intra=intra, inter=inter), timeout=120)
    assert printed.strip().endswith("done")
