"""A second copy of a network's variables, in memory: filled, by name, from the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

__all__ = ["copy_variables"]

_Variables = Mapping[str, Any]  # the variables of a scope, by their names in it


def copy_variables(src_scope: Any, dst_scope: Any) -> tf.Operation:
    """An op that gives the variables of one scope the values of those of the same names in another.

    For target networks, and for evaluating with the weights of an earlier step. It reads all values before it
    stores one. It is for v1 graphs: elsewhere no variable belongs to a scope.

    Every trainable variable must have a partner in the other scope, and in a scope without trainable ones,
    every variable. Others that have no partner, such as an optimizer's counts, are left alone, and so is what
    an optimizer keeps for each variable (`w/Adam` beside `w`).

    Args:
      src_scope, dst_scope: a variable scope or its name; "" is the whole graph. The variables of a scope that
        lies inside the other are not the other's.

    Returns:
      The op, for the variables that exist now. `session.run` fetches nothing from it.

    Raises:
      RuntimeError: in eager mode and in a `tf.function`.
      TypeError: for what is neither a scope nor a name.
      ValueError: for two equal scopes, a scope without variables and, all in one list, for the variables that
        lack a partner or have one of another shape or dtype.
    """
    if tf.executing_eagerly() or tf.compat.v1.get_default_graph().building_function:
        raise RuntimeError(
            "copy_variables finds the variables of a scope in a v1 graph; there are no scopes here: "
            "assign the variables one by one"
        )
    src_name, dst_name = _scope_name("src_scope", src_scope), _scope_name("dst_scope", dst_scope)
    if src_name == dst_name:
        raise ValueError(f"src_scope and dst_scope are the same, {src_name!r}")
    src, dst = _variables_in("src_scope", src_name, dst_name), _variables_in("dst_scope", dst_name, src_name)
    wrong = [*_alone(src, dst, dst_name), *_alone(dst, src, src_name), *_misfits(src, dst)]
    if wrong:
        raise ValueError(
            f"src_scope {src_name!r} and dst_scope {dst_name!r} differ:\n  " + "\n  ".join(wrong)
        )
    shared = [name for name in dst if name in src]
    values = [src[name].read_value() for name in shared]
    with tf.control_dependencies(values):
        pairs = zip(shared, values, strict=True)
        stores = [dst[name].assign(value, read_value=False) for name, value in pairs]
        return tf.group(*stores, name="copy_variables")


def _scope_name(argument: str, scope: Any) -> str:
    name = getattr(scope, "name", scope)
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a variable scope or the name of one, got {scope!r}")
    return name.strip("/")


def _variables_in(argument: str, scope: str, other_scope: str) -> _Variables:
    """The variables in a scope, without those of the other scope and what optimizers keep for each."""
    prefix, other_prefix = (f"{name}/" if name else "" for name in (scope, other_scope))
    every = {v.op.name: v for v in tf.compat.v1.global_variables()}

    def belongs(name: str) -> bool:
        parts = name.split("/")
        above = {"/".join(parts[:k]) for k in range(1, len(parts))}
        elsewhere = other_prefix.startswith(prefix) and name.startswith(other_prefix)
        return name.startswith(prefix) and not elsewhere and above.isdisjoint(every)

    found = {name.removeprefix(prefix): variable for name, variable in every.items() if belongs(name)}
    if not found:
        raise ValueError(f"{argument}: there are no variables in {scope!r}")
    return found


def _alone(variables: _Variables, others: _Variables, other_scope: str) -> list[str]:
    """What is wrong with those that need a partner and have none."""
    trainable = {name for name, variable in variables.items() if variable.trainable}
    prefix = f"{other_scope}/" if other_scope else ""
    return [
        f"{variable.op.name} has no partner {prefix}{name}"
        for name, variable in variables.items()
        if name not in others and (name in trainable or not trainable)
    ]


def _misfits(src: _Variables, dst: _Variables) -> list[str]:
    """What is wrong with those that have a partner of another shape or dtype."""

    def is_what(variable: Any) -> str:
        return f"{variable.op.name} is {variable.dtype.base_dtype.name} {variable.shape}"

    return [
        f"{is_what(src[name])}, but {is_what(dst[name])}"
        for name in src
        if name in dst
        and not (
            src[name].shape.is_compatible_with(dst[name].shape)
            and src[name].dtype.base_dtype == dst[name].dtype.base_dtype
        )
    ]
