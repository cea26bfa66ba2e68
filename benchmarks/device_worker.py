"""The process that uses the GPU, and the parent's handle on it.

A kernel that reads out of bounds ends every later call of its process, and one that waits for ever never
comes back: so the parent bounds every answer in time, and starts a new process after a failure.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from workload import Workload

Progress = Callable[[str], None]


class DeviceWorkerError(RuntimeError):
    """The process raised an error, died or did not answer; the message says which, in one line."""


def _serve(connection: Connection) -> None:
    """The child's loop: (question, arguments) in; ("stage", text) any number of times, then ("ok", value) or
    ("error", text) out."""
    from device_build import BUILD, import_core

    # What compilers and libraries print goes to a file, not across the progress bar.
    with open(BUILD / "worker.log", "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    import device_measure  # only here: it imports torch
    from device_contenders import library_rates
    from device_prediction import Prediction, predict

    def progress(text: str) -> None:
        connection.send(("stage", text))

    def start() -> dict[str, Any]:
        return device_measure.start() | {"build_info": import_core().build_info()}

    def predictions(points: list[Workload]) -> dict[Workload, Prediction]:
        return {point: predict(import_core(), point) for point in points}

    questions: dict[str, Callable[..., Any]] = {
        "start": start,
        "rates": library_rates,
        "predictions": predictions,
        "point": partial(device_measure.measure_point, progress),
        "flashrnn": partial(device_measure.measure_flashrnn, progress),
    }
    while True:
        try:
            question, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("ok", questions[question](*arguments))
        except Exception as error:  # the parent reports it
            answer = ("error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        connection.send(answer)


class DeviceWorker:
    """Asks the process, which the first question starts."""

    def __init__(self, serve: Callable[[Connection], None] = _serve) -> None:
        self._serve = serve
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, question: str, *arguments: object, seconds: float, progress: Progress | None = None) -> Any:
        """The answer, if it comes within the time; else the process is ended."""
        if self._connection is None:
            self._launch()
        assert self._connection is not None
        stage, end = "starting", time.monotonic() + seconds
        try:
            self._connection.send((question, arguments))
            while self._connection.poll(max(0.0, end - time.monotonic())):
                kind, value = self._connection.recv()
                if kind == "ok":
                    return value
                if kind == "error":
                    self.close()
                    raise DeviceWorkerError(f"{stage}: {value}")
                stage = value
                if progress is not None:
                    progress(stage)
        except (EOFError, OSError):
            code = self.close()
            raise DeviceWorkerError(f"{stage}: the process ended with exit code {code}") from None
        self.close()
        raise DeviceWorkerError(f"{stage}: no answer within {seconds:.0f} s")

    def close(self) -> int | None:
        """Ends the process, whatever it does; the next question starts a new one. Returns its exit code."""
        if self._connection is None:
            return None
        self._connection.close()
        self._process.join(timeout=2)
        code: int | None = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join(timeout=30)
        self._process = self._connection = None
        return code

    def _launch(self) -> None:
        sys.stdout.flush()
        context = multiprocessing.get_context("spawn")
        self._connection, child_end = context.Pipe()
        self._process = context.Process(target=self._serve, args=(child_end,), name="device", daemon=True)
        self._process.start()
        child_end.close()  # or the end of the child would never show as the end of the pipe
