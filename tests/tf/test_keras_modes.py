"""The drop-in tests in the other Keras mode, in another process: Keras is chosen before TensorFlow starts."""

from __future__ import annotations

from pathlib import Path

from tf.scripts import run
from tf.tensorflow_cells import LEGACY_KERAS

OTHER = "0" if LEGACY_KERAS else "1"


def test_drop_in_tests_in_the_other_mode() -> None:
    folder = Path(__file__).parent
    options = ("-q", "-m", "drop_in", "-p", "no:cacheprovider", "--tb=short")
    done = run("-m", "pytest", *options, str(folder), timeout=900, TF_USE_LEGACY_KERAS=OTHER)
    print(done.stdout)
    assert done.returncode == 0, f"TF_USE_LEGACY_KERAS={OTHER}\n{done.stdout[-12000:]}\n{done.stderr[-4000:]}"
    assert " passed" in done.stdout
