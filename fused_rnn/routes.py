"""Which layers of a cell run as whole sequences, which step by step, and why: all decided here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fused_rnn._reference_cells import FAMILIES
from fused_rnn.rnn_cell import FusedCell

__all__ = ["children", "explain", "keeps_padding_zero", "kind_of", "obstacle", "runs_whole", "should_drop"]

# What is known of TensorFlow's cells around others: the class, and the methods that make up its step. A
# subclass that overrides one of them is a cell of its own.
_WRAPPER = ("__call__", "call", "_call_wrapped_cell")
_DROPOUT = (*_WRAPPER, "_dropout", "_gen_seed", "_variational_recurrent_dropout_value")
_CLASSES = {
    "stack": ("MultiRNNCell", ("__call__", "call")),
    "dropout": ("DropoutWrapper", _DROPOUT),
    "residual": ("ResidualWrapper", _WRAPPER),
    "device": ("DeviceWrapper", _WRAPPER),
}
_KINDS: dict[type, str] = {
    getattr(family, name): kind for family in FAMILIES for kind, (name, _) in _CLASSES.items()
}


def explain(cell: Any) -> str:
    """Prints which route each layer of a cell takes in `fused_rnn.dynamic_rnn`, and why.

    The same holds for `static_rnn`, and for each direction in `bidirectional_dynamic_rnn` and
    `static_bidirectional_rnn`, which share an op where their cells are alike and have no wrapper. Where
    TensorFlow owns the loop (in its own functions, `raw_rnn`, `static_state_saving_rnn`), all layers run step
    by step.

    Args:
      cell: an RNNCell.

    Returns:
      What it printed: a line for each layer.

    Raises:
      TypeError: if cell is not an RNNCell.
    """
    if isinstance(cell, type) or not callable(cell) or not hasattr(cell, "state_size"):
        got = cell if isinstance(cell, type) else type(cell).__name__
        raise TypeError(f"cell must be an RNNCell, got {got}")
    text = "\n".join(_lines(cell, [], None))
    print(text)
    return text


def runs_whole(cell: Any) -> bool:
    """Whether a cell, or a layer in it, runs a whole sequence in one op."""
    return obstacle(cell) is None and (kind_of(cell) == "cell" or any(map(runs_whole, children(cell))))


def obstacle(cell: Any) -> str | None:
    """Why TensorFlow's loop must call this cell itself, whatever it holds; None if nothing in the cell, apart
    from what it holds, speaks against the sequence route."""
    kind, name = kind_of(cell), type(cell).__name__
    if kind is None:
        base = _base(cell)
        if base is None:
            return f"{name} is not a cell of fused_rnn"
        return f"{name} has a {_overridden(cell, base)} of its own"
    unknown = cell._unknown_to_the_ops() if kind == "cell" else None
    if unknown is not None:
        return f"{name} has {unknown}"
    if kind == "dropout" and should_drop(cell._state_keep_prob) and not _takes_masks(cell):
        value = cell._state_keep_prob
        return f"{name} has {f'state_keep_prob={value}' if isinstance(value, float) else 'a state_keep_prob'}"
    return None


def _takes_masks(wrapper: Any) -> bool:
    """Whether dropout on the state, which stands between one step and the next, can go into the sequence ops:
    these let in a mask on h. (An LSTM's c is dropped where it shares a tensor with h, or a filter has it.)"""
    name = getattr(wrapper._dropout_state_filter, "__name__", None)  # which not every callable has
    if name != "_default_dropout_state_filter_visitor":
        return False

    def fits(cell: Any) -> bool:
        if obstacle(cell) is not None or getattr(cell, "_state_is_tuple", True) is False:
            return False
        return all(map(fits, children(cell)))

    return fits(wrapper.cell)


def kind_of(cell: Any) -> str | None:
    """ "cell" for a fused one; "stack", "dropout", "residual" or "device"; None if its step is not known."""
    base = _base(cell)
    if base is None or _overridden(cell, base) is not None:
        return None
    return _KINDS.get(base, "cell")


def children(cell: Any) -> list[Any]:
    """The cells that a stack or a wrapper holds."""
    kind = kind_of(cell)
    if kind in (None, "cell"):
        return []
    return list(cell._cells) if kind == "stack" else [cell.cell]


def should_drop(keep_prob: Any) -> bool:
    """Whether dropout with this keep_prob does anything: a DropoutWrapper keeps numbers as floats."""
    return not isinstance(keep_prob, float) or keep_prob < 1


def keeps_padding_zero(cell: Any) -> bool:
    """Whether outputs past a row's end are zero on the sequence route: a residual adds the inputs to them."""
    if kind_of(cell) == "cell" or not runs_whole(cell):
        return True
    return kind_of(cell) != "residual" and keeps_padding_zero(children(cell)[-1])


def _base(cell: Any) -> type | None:
    """The class whose step a cell should have: FusedCell, or a stack or wrapper of TensorFlow's."""
    return next((base for base in type(cell).__mro__ if base is FusedCell or base in _KINDS), None)


def _overridden(cell: Any, base: type) -> str | None:
    """The method of the base's step that a subclass, or somebody on the object, has replaced."""
    if base is FusedCell:
        originals = {"__call__": FusedCell.reference_call, "call": FusedCell.call}
    else:
        originals = {name: getattr(base, name) for name in _CLASSES[_KINDS[base]][1]}
    for name, original in originals.items():
        if getattr(type(cell), name) is not original or name in vars(cell):
            return name
    return None


def _lines(cell: Any, path: list[str], why: str | None) -> Iterator[str]:
    """The lines of a cell's layers. why: what keeps a cell around it from the sequence route."""
    nested = [cell]  # the wrappers around a layer or a stack, and that
    while kind_of(nested[-1]) in ("dropout", "residual", "device"):
        nested += children(nested[-1])
    why = next(filter(None, [why, *map(obstacle, nested)]), None)
    if kind_of(nested[-1]) == "stack":
        for number, layer in enumerate(children(nested[-1])):
            yield from _lines(layer, [*path, f"cell_{number}"], why)
        return
    if why is None:
        functions = any(getattr(wrapper, "_residual_fn", None) for wrapper in nested[:-1])
        route = "whole sequence in one op" + ("; its residual_fn is called once a step" if functions else "")
    else:
        in_one_op = kind_of(nested[-1]) == "cell" and nested[-1]._op_cell is not None
        route = f"step by step{', each in one op' if in_one_op else ''}: {why}"
    yield ": ".join([*filter(None, ["/".join(path)]), _describe(nested), route])


def _describe(nested: list[Any]) -> str:
    """ "DropoutWrapper(LSTMCell(650))" """
    cell = nested[-1]
    sizes = f"({cell.output_size})" if kind_of(cell) == "cell" else ""
    return "(".join(type(wrapper).__name__ for wrapper in nested) + sizes + ")" * (len(nested) - 1)
