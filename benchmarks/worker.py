"""One process per contender, and the pipe to it.

TensorFlow, torch and onnxruntime each bring thread pools that spin for a while after every call, and switches
that hold for a whole process. Each in a process of its own, idle on a pipe while another is timed, they leave
one another alone, and one that crashes ends its own process only.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from contenders import Contender
from resident import memory_of
from timing import burst, settle
from workload import FloatArray, Workload

_ANSWER_SECONDS = 1800.0


class WorkerError(Exception):
    """A contender raised an error, died or did not answer; the message says which, in one line."""


@dataclass(frozen=True)
class Settings:
    """What every contender is run with."""

    device: str
    threads: int


@dataclass(frozen=True)
class Prepared:
    """A contender ready to run one workload: `call` is what is timed, `results` are its results by name.

    The results are y [B, T, H] and, in training, d_x [B, T, I] and the weight gradients, in TensorFlow 1's
    layout.
    """

    call: Callable[[], object]
    results: Callable[[], dict[str, FloatArray]]


def _serve(connection: Connection, contender: Contender, settings: Settings, log: str) -> None:
    """The child's loop: (method, arguments) in, ("ok", value) or ("error", text) out, until the pipe closes.

    What libraries write to the standard error goes to the file `log`, not across the progress bar.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 2)
    session = _Session(contender, settings)
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer: tuple[str, Any] = ("ok", getattr(session, method)(*arguments))
        except (
            Exception
        ) as error:  # whatever a library raises is the contender's result, and the parent reports it
            text = " ".join(str(error).split())
            answer = ("error", f"{type(error).__name__}: {text[:160]}")
        connection.send(answer)


class _Session:
    """What a worker does, in its own process."""

    def __init__(self, contender: Contender, settings: Settings) -> None:
        self._contender = contender
        self._settings = settings
        self._prepared: Prepared | None = None

    def start(self) -> dict[str, Any]:
        """Imports the libraries, checks the device; returns what is worth recording about them."""
        self._module = importlib.import_module(f"contenders.{self._contender.module}")
        answer: dict[str, Any] = self._module.start(self._settings)
        return answer

    def matmul_rate(self) -> float:
        """GFLOP/s of the library's own large float32 matrix product."""
        return float(self._module.matmul_rate(self._settings))

    def prepare(self, workload: Workload) -> dict[str, FloatArray]:
        """Builds the workload and runs it once; returns its results."""
        self._prepared = None
        self._prepared = getattr(self._module, self._contender.prepare)(workload, self._settings)
        return self._prepared.results()

    def run(self, seconds: float) -> tuple[list[float], float]:
        """Times of single calls, and the processor time they used, all in seconds."""
        if self._prepared is None:
            raise RuntimeError("nothing is prepared")
        before = time.process_time()
        samples = burst(self._prepared.call, seconds)
        settle()
        return samples, time.process_time() - before

    def memory(self) -> tuple[int, int]:
        """Bytes that a call adds to this process: with its result still held, and at most meanwhile."""
        if self._prepared is None:
            raise RuntimeError("nothing is prepared")
        settle()
        return memory_of(self._prepared.call)

    def release(self) -> None:
        """Lets go of the workload's memory."""
        self._prepared = None
        gc.collect()


class Worker:
    """The parent's handle on a contender's process, which the first question starts, also after a crash."""

    def __init__(self, contender: Contender, settings: Settings) -> None:
        """Nothing is started yet."""
        self.contender = contender
        self._settings = settings
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        # Open, and so on the disk, as long as this object is.
        self._log = tempfile.NamedTemporaryFile(prefix=f"{contender.name}_", suffix=".log")  # noqa: SIM115

    def send(self, method: str, *arguments: object) -> None:
        """Asks without waiting, so that several workers can prepare at once; `receive` waits."""
        if self._connection is None:
            self._launch()
            if method != "start":
                self.ask("start")
        assert self._connection is not None
        try:
            self._connection.send((method, arguments))
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> Any:
        """The answer to the question sent last."""
        assert self._connection is not None
        try:
            if not self._connection.poll(_ANSWER_SECONDS):
                self.close()
                raise WorkerError(f"no answer within {_ANSWER_SECONDS:.0f} s")
            status, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None
        if status == "error":
            raise WorkerError(value)
        return value

    def ask(self, method: str, *arguments: object) -> Any:
        """Sends a question and waits for its answer."""
        self.send(method, *arguments)
        return self.receive()

    def close(self) -> None:
        """Ends the process; the next question starts a new one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(timeout=5)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = self._connection = None

    def _launch(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_end = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(child_end, self.contender, self._settings, self._log.name),
            name=self.contender.name,
            daemon=True,
        )
        self._process.start()
        child_end.close()  # or the end of the child would never show as the end of the pipe

    def _death(self) -> WorkerError:
        assert self._process is not None
        self._process.join(timeout=5)
        code = self._process.exitcode
        self.close()
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code and code < 0
            else f"ended with exit code {code}"
        )
        said = Path(self._log.name).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "nothing")
        return WorkerError(f"its process {how}; the last it wrote: {last[:200]}")


def set_environment(settings: Settings) -> None:
    """Environment that workers inherit and that libraries read only while they are loaded."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    if settings.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
