"""Settings of tests/tf: quiet TensorFlow on the CPU; legacy Keras unless the environment says otherwise.

Both must be set before TensorFlow is imported; test_keras_modes.py runs the drop-in tests in the other mode.
"""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "drop_in: run again by test_keras_modes.py in the other Keras mode")


@pytest.fixture(scope="session", autouse=True)
def _on_the_cpu() -> None:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.get_logger().setLevel("ERROR")  # the reference's advice to leave v1


@pytest.fixture(autouse=True)
def _fresh_graph() -> None:
    import tensorflow as tf

    tf.compat.v1.reset_default_graph()
