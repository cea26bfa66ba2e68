"""Imports TensorFlow as a TensorFlow 1 script sees it, `tf`, without the pages it logs on the way.

TF_CPP_MIN_LOG_LEVEL silences its C++ side only once the library is loaded, so the lines written while it
loads are kept from the terminal here. An error still raises its exception.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

__all__ = ["tf"]


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Sends what the process writes to its standard error to the null device."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _without_stderr():
    import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()
# Every TensorFlow 1 cell warns that Keras has replaced it; here these cells are the point.
warnings.filterwarnings("ignore", message=r"`(tf\.nn\.rnn_cell\.\w+|layer\.add_variable)` is deprecated")
