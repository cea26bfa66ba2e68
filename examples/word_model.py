"""The language model of Zaremba et al. 2014, "Recurrent Neural Network Regularization", as a v1 graph.

An ordinary TensorFlow 1 script: two layers of cells in a MultiRNNCell, DropoutWrapper on what goes from layer
to layer (never on what goes from step to step), dynamic_rnn, full softmax, clipped gradient descent. Where
these names come from is all that differs between the two models trained side by side.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from quiet_tensorflow import tf  # isort: skip  (before all else that imports TensorFlow)
import fused_rnn.rnn_cell

__all__ = ["CELLS", "LAYERS", "SETTINGS", "LanguageModel", "Library", "RnnPart", "Setting", "copy_weights"]

LAYERS = 2


def _tensorflow_cells() -> Any:
    """The module tf.nn.rnn_cell, or under Keras 3, which empties it, the copy inside core TensorFlow."""
    if hasattr(tf.nn.rnn_cell, "BasicLSTMCell"):
        return tf.nn.rnn_cell
    return importlib.import_module("tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl")


@dataclasses.dataclass(frozen=True)
class Library:
    """Where a model takes its recurrent layers from."""

    rnn_cell: Any  # the module of the cells, and of what goes around them
    dynamic_rnn: Callable[..., tuple[tf.Tensor, Any]]


CELLS = {
    "reference": Library(_tensorflow_cells(), tf.nn.dynamic_rnn),
    "fused": Library(fused_rnn.rnn_cell, fused_rnn.dynamic_rnn),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One of the paper's three models, and how it is trained (section 4.1)."""

    hidden: int  # H: units of a layer, and the width of the embedding
    steps: int  # T: words that back-propagation goes back through
    keep: float  # share of the values that dropout lets through
    initial: float  # the weights start uniformly distributed in [-initial, initial]
    largest_norm: float  # the norm that the gradients are clipped to, all of them together
    full_rate_epochs: int  # after so many epochs the learning rate decays
    decay: float  # the learning rate's factor from one epoch to the next, then
    epochs: int
    batch: int = 20  # B
    learning_rate: float = 1.0

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch; the first one is number 1."""
        return self.learning_rate * self.decay ** max(0, epoch - self.full_rate_epochs)


SETTINGS = {
    "small": Setting(200, 20, 1.0, 0.1, largest_norm=5, full_rate_epochs=4, decay=0.5, epochs=13),
    "medium": Setting(650, 35, 0.5, 0.05, largest_norm=5, full_rate_epochs=6, decay=1 / 1.2, epochs=39),
    "large": Setting(1500, 35, 0.35, 0.04, largest_norm=10, full_rate_epochs=14, decay=1 / 1.15, epochs=55),
}


def stack_of_cells(cells: str, setting: Setting, keep: float) -> Any:
    """The recurrent layers: a MultiRNNCell of cells, each with dropout on its output.

    With dropout the models' perplexities differ by chance: fused_rnn draws the masks of all steps at once.
    """
    rnn_cell = CELLS[cells].rnn_cell

    def layer(number: int) -> Any:
        cell = rnn_cell.BasicLSTMCell(setting.hidden, forget_bias=0.0)
        return rnn_cell.DropoutWrapper(cell, output_keep_prob=keep, seed=number)

    return rnn_cell.MultiRNNCell([layer(number) for number in range(LAYERS)])


class LanguageModel:
    """The graph for batches of one size, its variables in the scope named after its cells.

    Models of the same cells share their variables: one to train, one to evaluate and one to sample with.
    """

    def __init__(
        self, cells: str, setting: Setting, vocabulary: int, *, batch: int, steps: int, training: bool = False
    ) -> None:
        """`cells` is a key of CELLS, `batch` and `steps` a batch's size; `training` adds the gradients."""
        self.batch, self.steps = batch, steps
        self.words = tf.placeholder(tf.int32, [batch, steps])  # [B, T]
        self.targets = tf.placeholder(tf.int32, [batch, steps])  # [B, T], the word after each word
        keep = setting.keep if training else 1.0
        initializer = tf.random_uniform_initializer(-setting.initial, setting.initial)
        with tf.variable_scope(cells, reuse=tf.AUTO_REUSE, initializer=initializer):
            embedding = tf.get_variable("embedding", [vocabulary, setting.hidden])
            inputs = tf.nn.embedding_lookup(embedding, self.words)  # [B, T, H]
            if keep < 1:
                inputs = tf.nn.dropout(inputs, rate=1 - keep, seed=LAYERS)
            cell = stack_of_cells(cells, setting, keep)
            self.initial_state = cell.zero_state(batch, tf.float32)
            outputs, self.final_state = CELLS[cells].dynamic_rnn(
                cell, inputs, initial_state=self.initial_state
            )
            weights = tf.get_variable("softmax_weights", [setting.hidden, vocabulary])
            bias = tf.get_variable("softmax_bias", [vocabulary])
        self.logits = tf.matmul(tf.reshape(outputs, [-1, setting.hidden]), weights) + bias  # [B*T, V]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.reshape(self.targets, [-1]), logits=self.logits
        )
        # The sum over the steps and the mean over the batch: clipping and learning rates are meant for it.
        self.cost = tf.reduce_sum(losses) / batch
        if training:
            variables = tf.trainable_variables(f"{cells}/")
            self.learning_rate = tf.placeholder(tf.float32, [])
            gradients, _ = tf.clip_by_global_norm(tf.gradients(self.cost, variables), setting.largest_norm)
            optimizer = tf.train.GradientDescentOptimizer(self.learning_rate)
            self.train = optimizer.apply_gradients(zip(gradients, variables, strict=True))


class RnnPart:
    """The recurrent layers of the training model alone: forward and all gradients, on inputs of its shape.

    It runs on the variables of the language model with the same cells, which must have been built before.
    """

    def __init__(self, cells: str, setting: Setting) -> None:
        """`cells` is a key of CELLS."""
        self.inputs = tf.placeholder(tf.float32, [setting.batch, setting.steps, setting.hidden])  # [B, T, H]
        with tf.variable_scope(cells, reuse=True):
            cell = stack_of_cells(cells, setting, setting.keep)
            outputs, _ = CELLS[cells].dynamic_rnn(cell, self.inputs, dtype=tf.float32)
        loss = tf.reduce_sum(tf.square(outputs))
        gradients = tf.gradients(loss, [self.inputs, *tf.trainable_variables(f"{cells}/rnn/")])
        # One number from all of them: TensorFlow leaves out of a run what nothing uses, a tf.group included.
        self.run = tf.global_norm(gradients)


def copy_weights(session: tf.Session, source: str, target: str) -> None:
    """Gives the variables of one model to another, by name; raises ValueError where the names differ."""
    given = {v.op.name.removeprefix(source): v for v in tf.trainable_variables(f"{source}/")}
    taking = {v.op.name.removeprefix(target): v for v in tf.trainable_variables(f"{target}/")}
    if given.keys() != taking.keys():
        raise ValueError(f"variables of {source} {sorted(given)}, but of {target} {sorted(taking)}")
    session.run([tf.assign(variable, given[name]) for name, variable in taking.items()])
