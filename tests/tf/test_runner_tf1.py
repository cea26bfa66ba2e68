"""`python -m fused_rnn --tf1`: what `import tensorflow` means in a script, and that libraries keep theirs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tf.scripts import run

SCRIPT = """
import tensorflow as tf
import tensorflow
import tensorflow.contrib.layers as contrib_layers
import tensorflow.compat.v1 as compat
import tensorflow.contrib.legacy_seq2seq
import tensorflow.python.ops.rnn_cell as python_rnn_cell
from tensorflow import contrib, nn
from tensorflow.contrib import rnn, seq2seq
from tensorflow.contrib.rnn import BasicLSTMCell
from tensorflow.nn import rnn_cell
from tensorflow.python.framework import ops
from tensorflow.python.ops import rnn_cell_impl
import beside

import fused_rnn
from fused_rnn.rnn_cell import BasicLSTMCell as Fused

assert tf is tensorflow is compat is beside.tf
assert not tf.executing_eagerly()
assert ops.Graph is tf.Graph
cells = [rnn.BasicLSTMCell, tf.contrib.rnn.BasicLSTMCell, contrib.rnn.BasicLSTMCell, BasicLSTMCell]
cells += [tf.nn.rnn_cell.BasicLSTMCell, rnn_cell.BasicLSTMCell, nn.rnn_cell.BasicLSTMCell]
cells += [python_rnn_cell.BasicLSTMCell, rnn_cell_impl.BasicLSTMCell, beside.rnn.BasicLSTMCell]
assert all(cell is Fused for cell in cells), cells
assert tf.contrib.layers is contrib_layers is fused_rnn.contrib.layers
assert tf.contrib.seq2seq.sequence_loss is seq2seq.sequence_loss
assert tf.contrib.legacy_seq2seq is tensorflow.contrib.legacy_seq2seq
assert tf.nn.dynamic_rnn is fused_rnn.dynamic_rnn

exec("import tensorflow as inside", places := {})
assert places["inside"] is tf
for missing in ("tensorflow.contrib.slim", "tensorflow.nothing", "tensorflow.python.nothing"):
    try:
        __import__(missing)
    except ModuleNotFoundError as error:
        assert missing in str(error)
    else:
        raise AssertionError(missing)
try:
    from tensorflow import nothing
except ImportError as error:
    assert "nothing" in str(error)

# Libraries have the TensorFlow that they were written for.
import installed
assert installed.tf is not tf
assert installed.tf.__name__ == "tensorflow"
assert installed.within() is installed.tf

flags = tf.app.flags
flags.DEFINE_integer("units", 3, "units")
FLAGS = tf.flags.FLAGS


def main(arguments):
    assert arguments[1:] == ["more"], arguments
    x = tf.placeholder(tf.float32, [2, 4, 5])
    outputs, state = tf.nn.dynamic_rnn(BasicLSTMCell(FLAGS.units), x, dtype=tf.float32)
    logits = tf.layers.dense(outputs, 6)
    loss = seq2seq.sequence_loss(logits, tf.zeros([2, 4], tf.int32), tf.ones([2, 4]))
    train = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run([loss, train], {x: [[[1.0] * 5] * 4] * 2})[0]
        assert sess.run(loss, {x: [[[1.0] * 5] * 4] * 2}) < before
    for variable in tf.global_variables():
        print(variable.name, variable.dtype.name)


if __name__ == "__main__":
    tf.app.run()
"""
EXPECTED = """\
rnn/basic_lstm_cell/kernel:0 float32_ref
rnn/basic_lstm_cell/bias:0 float32_ref
dense/kernel:0 float32_ref
dense/bias:0 float32_ref
"""
INSTALLED = """
import tensorflow as tf


def within():
    import tensorflow

    return tensorflow
"""
# What makes a folder look like one for installed libraries to the process.
SITE = """
import os
import site

folder = os.environ["LIBRARIES"]
original = site.getsitepackages
site.getsitepackages = lambda: [*original(), folder]
"""


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A folder for installed libraries, with one in it."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    (folder / "installed.py").write_text(INSTALLED)
    (folder / "sitecustomize.py").write_text(SITE)
    return folder


def test_script(libraries: Path, tmp_path: Path) -> None:
    """Under Keras 3, where TensorFlow by itself has no tf.layers."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("import tensorflow as tf\nfrom tensorflow.contrib import rnn\n")
    done = run_with(libraries, "--tf1", str(tmp_path / "script.py"), "--units=3", "more", keras="0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == EXPECTED


def test_installed_program(libraries: Path) -> None:
    """With -m, the program itself may be installed; the libraries around it still are none."""
    package = libraries / "program"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("import tensorflow as tf\n")
    (package / "train.py").write_text(
        "import installed\n"
        "import tensorflow as tf\n"
        "from program import model\n"
        "print(model.tf is tf, tf.__name__, installed.tf.__name__, hasattr(tf.contrib, 'rnn'))\n"
    )
    done = run_with(libraries, "--tf1", "-m", "program.train")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "True tensorflow.compat.v1 tensorflow True\n"


def run_with(libraries: Path, *command: str, keras: str = "1") -> CompletedProcess[str]:
    paths = os.pathsep.join([str(libraries), *filter(None, sys.path)])
    return run(
        "-m",
        "fused_rnn",
        *command,
        PYTHONPATH=paths,
        LIBRARIES=str(libraries),
        TF_USE_LEGACY_KERAS=keras,
    )
