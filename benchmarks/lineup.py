"""The contenders that take part in a run, each started in its process, and why the others do not."""

from typing import Any

from contenders import CONTENDERS, FUSED, PEERS, SEQUENCE, Contender
from peak import fma_rate
from worker import Settings, Worker, WorkerError
from workload import Workload


class LineupError(Exception):
    """fused_rnn itself cannot take part; the message says why, in one line."""


class Lineup:
    """The running workers, what they are made of, and the contenders that are absent, with the reason."""

    def __init__(self, settings: Settings, peers: list[str] | None) -> None:
        """Starts everyone who can take part: the fused routes, and the given peers, or all of them."""
        self._settings = settings
        self.workers: list[Worker] = []
        self.absent: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.build_info: dict[str, Any] = {}
        launched: list[Worker] = []
        for contender in CONTENDERS:
            reason = self._absence(contender, peers)
            if reason is None:
                launched.append(Worker(contender, settings))
                launched[-1].send("start")  # all import side by side
            else:
                self._leave_out(contender, reason)
        for worker in launched:
            self._greet(worker)

    def _absence(self, contender: Contender, peers: list[str] | None) -> str | None:
        """Why a contender does not take part; None if it does."""
        if peers and contender in PEERS and contender.name not in peers:
            return "not asked for"
        if self._settings.device not in contender.devices:
            return f"does not run on {self._settings.device} here"
        missing = contender.missing()
        return f"not installed ({', '.join(missing)})" if missing else None

    def _leave_out(self, contender: Contender, reason: str) -> None:
        if contender in FUSED:
            self.close()
            raise LineupError(f"{contender.label}: {reason}")
        self.absent[contender.name] = reason

    def _greet(self, worker: Worker) -> None:
        """Waits for a worker's imports; one that cannot start is left out."""
        try:
            answer = worker.receive()
        except WorkerError as error:
            worker.close()
            self._leave_out(worker.contender, f"cannot run: {error}")
            return
        self.workers.append(worker)
        self.versions |= answer["versions"]
        self.build_info |= answer.get("build_info", {})

    def runners(self, workload: Workload) -> list[Worker]:
        """The workers that offer a workload's cell, mode and dtype."""
        return [worker for worker in self.workers if worker.contender.offers(workload)]

    def measure_peak(self) -> dict[str, float]:
        """Every rate this machine's peak is taken from, in GFLOP/s, by what was measured."""
        rates: dict[str, float] = {}
        if self._settings.device == "cpu":
            rate = fma_rate(self._settings.threads)
            if rate is not None:
                rates["multiply-adds in registers"] = rate
        for worker in self.workers:
            if worker.contender.name in (SEQUENCE, "torch"):
                library = "torch.mm" if worker.contender.name == "torch" else "tf.matmul"
                rates[library] = worker.ask("matmul_rate")
        return rates

    def close(self) -> None:
        """Ends every process."""
        for worker in self.workers:
            worker.close()
