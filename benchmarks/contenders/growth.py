"""Contenders: fused_rnn's sequence route on twice the steps, or twice the rows, of the workload."""

from dataclasses import replace

from contenders import sequence
from contenders.session import start_fused as start
from worker import Prepared, Settings
from workload import FloatArray, Workload

__all__ = ["start", "twice_the_rows", "twice_the_steps"]


def _prepare_larger(workload: Workload, settings: Settings, rows: int, steps: int) -> Prepared:
    case = replace(workload.case, batch=rows * workload.case.batch, steps=steps * workload.case.steps)
    prepared = sequence.prepare(replace(workload, case=case), settings)

    def results() -> dict[str, FloatArray]:
        found = prepared.results()
        if found["y"].shape != (case.batch, case.steps, case.hidden):
            raise RuntimeError(f"outputs of {case} have the shape {found['y'].shape}")
        return found

    return Prepared(prepared.call, results)


def twice_the_steps(workload: Workload, settings: Settings) -> Prepared:
    """As sequence.prepare()."""
    return _prepare_larger(workload, settings, rows=1, steps=2)


def twice_the_rows(workload: Workload, settings: Settings) -> Prepared:
    """As sequence.prepare()."""
    return _prepare_larger(workload, settings, rows=2, steps=1)
