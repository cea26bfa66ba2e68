"""What the ops call a cell: its name and the numbers that go with it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ACTIVATIONS", "Cell"]

ACTIVATIONS = ("tanh", "relu", "sigmoid", "softsign", "elu", "identity")


@dataclass(frozen=True)
class Cell:
    """A cell as the ops know it.

    name: "rnn", "lstm", "lstm_peephole", "lstm_projected" (which has peepholes, too), "gru" or
      "gru_reset_after".
    activation: one of ACTIVATIONS, in place of tanh.
    forget_bias: of the lstm: added to the forget gate's preactivation.
    cell_clip, proj_clip: of the lstm: the limits of c, and of h where it is projected; None for none.
    """

    name: str
    activation: str = "tanh"
    forget_bias: float = 0.0
    cell_clip: float | None = None
    proj_clip: float | None = None
