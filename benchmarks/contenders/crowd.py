"""Contenders: the same two LSTM layers in eight sessions, or functions: in a row or at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import fused_rnn
from contenders.functional import Compute, in_function, in_session, start
from worker import Prepared, Settings
from workload import FloatArray, Workload, make_arrays

__all__ = [
    "functions_at_once",
    "functions_in_a_row",
    "sessions_at_once",
    "sessions_in_a_row",
    "start",
]

SIZE = 8

Place = Callable[[Compute, Workload, Settings], Prepared]
Map = Callable[[Callable[[Prepared], Any], Iterable[Prepared]], Iterable[Any]]


def _two_layers(workload: Workload, x: Any, weights: dict[str, Any]) -> list[Any]:
    between, _ = fused_rnn.lstm(x, **weights)
    second = make_arrays("lstm", replace(workload.case, inputs=workload.case.hidden))[1]
    return [fused_rnn.lstm(between, second["kernel"], second["bias"])[0]]


def _crowd(place: Place, apply: Map, workload: Workload, settings: Settings) -> Prepared:
    everyone = [place(_two_layers, workload, settings) for _ in range(SIZE)]

    def results() -> dict[str, FloatArray]:
        first, *others = (found["y"] for found in apply(lambda one: one.results(), everyone))
        if not all(np.array_equal(first, other) for other in others):
            raise RuntimeError("equal work side by side gave different results")
        return {"y": first}

    return Prepared(lambda: list(apply(lambda one: one.call(), everyone)), results)


_threads = ThreadPoolExecutor(SIZE)
sessions_in_a_row, sessions_at_once = (partial(_crowd, in_session, way) for way in (map, _threads.map))
functions_in_a_row, functions_at_once = (partial(_crowd, in_function, way) for way in (map, _threads.map))
