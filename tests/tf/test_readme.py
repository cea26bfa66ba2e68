"""The README's layer for Keras 3, as it stands there."""

from __future__ import annotations

from pathlib import Path

from tf.scripts import run_script

README = Path(__file__).resolve().parents[2] / "README.md"

TRAIN = """
import keras
import numpy as np
import tensorflow as tf

import fused_rnn

exec(open({readme!r}).read().split("<!-- keras layer -->")[1].split("```")[1].removeprefix("python"))

random = np.random.default_rng(0)
x = random.normal(size=(32, 9, 3)).astype("float32")
y = x[:, 0].sum(axis=1)
x[:16, 5:] = 0
layer = FusedLSTM(8)
model = keras.Sequential([layer, keras.layers.Flatten(), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.02), "mse")
model(x)
lstm = keras.layers.LSTM(8, return_sequences=True, zero_output_for_mask=True)
lstm.build(x.shape)
i, c, f, o = np.split(layer.kernel.numpy(), 4, axis=1)
kernel = np.concatenate([i, f, c, o], axis=1)
forget_bias = np.repeat([0.0, 1.0, 0.0, 0.0], 8)
lstm.set_weights([kernel[:3], kernel[3:], forget_bias])
mask = keras.layers.Masking().compute_mask(x)
np.testing.assert_allclose(layer(x, mask=mask), lstm(x, mask=mask), atol=1e-6)

before = layer.kernel.numpy()
losses = model.fit(x, y, epochs=60, verbose=0).history["loss"]
assert losses[-1] < 0.5 * losses[0], losses
assert len(layer.trainable_weights) == 2 and not np.array_equal(layer.kernel.numpy(), before)
"""


def test_keras_layer() -> None:
    """Keras's own numbers, with a mask; fit() trains its weights."""
    run_script(TRAIN.format(readme=str(README)), TF_USE_LEGACY_KERAS="0")
