"""The parts of limits.py: what runs on which workloads in each, and how figures come from the results."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from contenders import CONTENDERS, REFERENCE, SEQUENCE, Contender
from figures import Figure, Spread, milliseconds, spread_of
from measure import WorkloadResult, attempt, check_results, measure, one_layer
from numpy_reference import Results, right_answer
from resident import ENVIRONMENT
from timing import Plan
from worker import Worker
from workload import MODES, Case, Workload, make_arrays, weight_shapes

THREADS = 2

_BY_NAME = {contender.name: contender for contender in CONTENDERS}
_STEP, _SEQUENCE = _BY_NAME["step"], _BY_NAME[SEQUENCE]
_FUSED = ("tensorflow", "fused_rnn")
_MIB = 2.0**-20


@dataclass(frozen=True)
class Part:
    """Everything that `entrants`, with their numbers of threads, are asked to run, and what comes of it."""

    name: str
    title: str
    entrants: tuple[tuple[Contender, int], ...]
    workloads: tuple[Workload, ...]
    figures: Callable[[list[Any]], list[Figure]]
    measure: Callable[..., WorkloadResult] = measure
    answer: Callable[[Workload], Results] = one_layer
    environment: dict[str, str] = field(default_factory=dict)  # of the entrants' processes


def _own(
    module: str, prepare: str, label: str, cells: tuple[str, ...] = ("lstm",), checked: bool = True
) -> Contender:
    """A contender of this script alone, whose name is that of its prepare function."""
    return Contender(prepare, label, module, _FUSED, cells, prepare=prepare, checked=checked)


def _two(*contenders: Contender) -> tuple[tuple[Contender, int], ...]:
    return tuple((contender, THREADS) for contender in contenders)


def _time(result: WorkloadResult, name: str) -> Spread:
    return milliseconds(result.outcomes[name].samples)


# --- one call of one op --------------------------------------------------------------------------------


def _call_figures(results: list[WorkloadResult]) -> list[Figure]:
    figures = []
    for result in results:
        for place in ("session", "function"):
            per_call = 1e3 / result.workload.case.steps  # us
            empty = _time(result, f"empty_in_{place}").scaled(per_call)
            for op in ("step", "sequence"):
                whole = _time(result, f"{op}_in_{place}").scaled(per_call)
                made_of = {op: whole, "empty op": empty}
                figures.append(Figure(f"{op} op in a {place}", whole - empty, "us", 15.0, made_of, "us"))
    return figures


CALL = Part(
    "call",
    "one call of an op beyond an empty one, LSTM 1,1,8,8, a hundred calls one after another",
    _two(
        *(
            _own("one_op", f"{op}_in_{place}", f"{op} in a {place}", checked=op != "empty")
            for place in ("session", "function")
            for op in ("empty", "step", "sequence")
        )
    ),
    (Workload("lstm", "inference", Case(1, 100, 8, 8)),),
    _call_figures,
)

# --- growth with T and B -------------------------------------------------------------------------------

# Sizes that are compared take turns: one after another they would meet a machine that is faster or slower.
_LARGER = (
    _own("growth", "twice_the_steps", "sequence route, T doubled", checked=False),
    _own("growth", "twice_the_rows", "sequence route, B doubled", checked=False),
)


def _growth_figures(results: list[WorkloadResult]) -> list[Figure]:
    figures = []
    for result in results:
        before = _time(result, SEQUENCE)
        for contender in _LARGER:
            after = _time(result, contender.name)
            made_of = {"before": before, "after": after}
            name = f"{result.workload}, {contender.name.replace('_', ' ')}"
            figures.append(Figure(name, after / before, "x", 2.1, made_of, "ms"))
    return figures


GROWTH = Part(
    "growth",
    "time of the sequence route when T or B doubles, LSTM",
    _two(_SEQUENCE, *_LARGER),
    tuple(
        Workload("lstm", mode, case)
        for mode in MODES
        for case in (
            *(Case(32, steps, 128, 256) for steps in (25, 50, 100, 200)),
            *(Case(batch, 50, 128, 256) for batch in (16, 64, 128)),
        )
    ),
    _growth_figures,
)

# --- two threads ---------------------------------------------------------------------------------------

_ONE_THREAD = replace(_SEQUENCE, name="one thread", label="fused sequence route, one thread")


def _thread_figures(results: list[WorkloadResult]) -> list[Figure]:
    figures = []
    for result in results:
        one, two = _time(result, _ONE_THREAD.name), _time(result, SEQUENCE)
        made_of = {"one thread": one, "two": two}
        figures.append(Figure(str(result.workload), one / two, "x", 1.8, made_of, "ms", at_least=True))
    return figures


THREAD = Part(
    "threads",
    "two threads against one, sequence route, steps of more than 20 us",
    ((_ONE_THREAD, 1), (_SEQUENCE, THREADS)),
    tuple(
        Workload(cell, mode, case)
        for cell in ("lstm", "gru")
        for mode in MODES
        for case in (
            Case(32, 50, 256, 512),
            Case(64, 50, 128, 128),
            Case(20, 35, 650, 650),
            Case(1, 100, 512, 512),
        )
    ),
    _thread_figures,
)

# --- several sessions ----------------------------------------------------------------------------------


def _two_layers(workload: Workload) -> Results:
    """The right answer of two LSTM layers, the second with the weights of a workload as wide as the first."""
    case = replace(workload.case, inputs=workload.case.hidden)
    between = one_layer(workload)["y"]
    return right_answer(workload.cell, between, make_arrays(workload.cell, case)[1], gradients=False)


def _crowd_figures(results: list[WorkloadResult]) -> list[Figure]:
    figures = []
    for result in results:
        for place in ("sessions", "functions"):
            row, together = _time(result, f"{place}_in_a_row"), _time(result, f"{place}_at_once")
            made_of = {"in a row": row, "at once": together}
            name = f"eight {place}, two layers {result.workload}"
            figures.append(Figure(name, together / row, "x", 1.15, made_of, "ms"))
    return figures


CROWD = Part(
    "sessions",
    "eight sessions (or functions, each called by its own thread) at once against eight in a row",
    _two(
        *(
            _own("crowd", f"{place}_{way}", f"{place} {way.replace('_', ' ')}")
            for place in ("sessions", "functions")
            for way in ("in_a_row", "at_once")
        )
    ),
    (Workload("lstm", "inference", Case(16, 50, 128, 256)),),
    _crowd_figures,
    answer=_two_layers,
)

# --- memory --------------------------------------------------------------------------------------------

_MEMORY_CELLS = ("lstm", "gru_reset_after")  # those that torch has
_KEPT = Contender("kept", "fused, forward", "tape", _FUSED, _MEMORY_CELLS, ("training",))
_TORCH = _BY_NAME["torch"]
_TORCH_KEPT = replace(
    _TORCH, name="torch kept", label="torch, forward", modes=("training",), prepare="prepare_forward"
)
_SHORT, _LONG = Case(32, 100, 256, 512), Case(32, 400, 256, 512)


@dataclass
class MemoryResult(WorkloadResult):
    """What a call of each contender adds to its process, in MiB."""

    held: dict[str, Spread] = field(default_factory=dict)  # with the call's result still at hand
    peak: dict[str, Spread] = field(default_factory=dict)


def measure_memory(
    workload: Workload,
    workers: list[Worker],
    device: str,
    plan: Plan,
    progress: Callable[[str], None],
    answer: Callable[[Workload], Results],
) -> MemoryResult:
    """Checks the workers, then looks at their memory; as `measure`."""
    result = MemoryResult(workload)
    check_results(result, workers, device, plan, progress, answer)

    def look(worker: Worker) -> None:
        found = []
        for _ in range(plan.rounds):
            progress(f"{workload}: memory of {worker.contender.name}")
            found.append(worker.ask("memory"))
        held, peak = zip(*found, strict=True)
        result.held[worker.contender.name] = spread_of(list(held)).scaled(_MIB)
        result.peak[worker.contender.name] = spread_of(list(peak)).scaled(_MIB)
        worker.ask("release")

    for worker in workers:
        if result.outcomes[worker.contender.name].status == "ok":
            attempt(result, worker, look)
    return result


def _given(workload: Workload) -> float:
    """MiB of x and the weights, which are there before a call."""
    case = workload.case
    weights = weight_shapes(workload.cell, case.inputs, case.hidden).values()
    numbers = case.batch * case.steps * case.inputs
    for shape in weights:
        numbers += shape[0] * (shape[1] if len(shape) == 2 else 1)
    return 4 * numbers * _MIB


def _memory_figures(results: list[MemoryResult]) -> list[Figure]:
    figures = []
    for result in results:
        pairs = {"peak": (result.peak.get(SEQUENCE), result.peak.get(_TORCH.name))}
        if result.workload.mode == "training":
            held = result.held
            pairs["kept for the way back"] = (held.get(_KEPT.name), held.get(_TORCH_KEPT.name))
        for what, (own, other) in pairs.items():
            if own is not None and other is not None:
                made_of = {"fused": own, "torch": other}
                note = f"besides {_given(result.workload):.4g} of x and weights" if what == "peak" else ""
                name = f"{result.workload}, {what}"
                figures.append(Figure(name, own / other, "x", 1.0, made_of, "MiB", note=note))
    return figures + _chunk_figures(results)


def _chunk_figures(results: list[MemoryResult]) -> list[Figure]:
    """Inference: what is neither given nor outputs, packed weights and a chunk of steps, has no T in it."""
    spaces: dict[str, dict[Case, Spread]] = {}
    for result in results:
        if result.workload.mode == "inference":
            case = result.workload.case
            outputs = 4 * case.batch * case.steps * case.hidden * _MIB
            space = result.peak[SEQUENCE] - Spread(outputs, outputs, outputs)
            spaces.setdefault(result.workload.cell, {})[case] = space
    return [
        Figure(
            f"{cell} inference, workspace: {_SHORT} to {_LONG}",
            space[_LONG] / space[_SHORT],
            "x",
            1.1,
            {"before": space[_SHORT], "after": space[_LONG]},
            "MiB",
        )
        for cell, space in spaces.items()
        if {_SHORT, _LONG} <= space.keys()
    ]


MEMORY = Part(
    "memory",
    "what a call adds to the process, beside torch",
    _two(_SEQUENCE, _TORCH, _KEPT, _TORCH_KEPT),
    tuple(
        Workload(cell, mode, case)
        for cell in _MEMORY_CELLS
        for mode, cases in (
            ("inference", (_SHORT, _LONG, Case(64, 50, 128, 128))),
            ("training", (_SHORT, Case(64, 50, 128, 128), Case(20, 35, 650, 650))),
        )
        for case in cases
    ),
    _memory_figures,
    measure_memory,
    environment=ENVIRONMENT,
)

# --- the step route ------------------------------------------------------------------------------------

_STEP_CELLS = ("lstm", "gru")


def _step_figures(results: list[WorkloadResult]) -> list[Figure]:
    figures = []
    for result in results:

        def per_step(name: str, result: WorkloadResult = result) -> Spread:
            return _time(result, name).scaled(1e3 / result.workload.case.steps)

        sequence, reference = per_step(SEQUENCE), per_step(REFERENCE)
        for place, name, empty_name in (
            ("dynamic_rnn", _STEP.name, "empty_loop"),
            ("unrolled", "fused_unrolled", "empty_unrolled"),
        ):
            step, empty = per_step(name), per_step(empty_name)
            figures.append(
                Figure(
                    f"{result.workload}, {place}",
                    step / (sequence + empty),
                    "x",
                    1.3,
                    {"step": step, "sequence": sequence, "empty loop": empty},
                    "us",
                    note=f"without the loop {(step.middle - empty.middle) / sequence.middle:.2f} x sequence",
                )
            )
        step = per_step(_STEP.name)
        made_of = {"TensorFlow's cell": reference, "fused cell": step}
        name = f"{result.workload}, reference"
        figures.append(Figure(name, reference / step, "x", 1.5, made_of, "us", at_least=True))
    return figures


STEP = Part(
    "step",
    "a step of the step route against sequence route + empty loop, and of TensorFlow's cell against it",
    _two(
        _STEP,
        _SEQUENCE,
        _BY_NAME[REFERENCE],
        _own("loops", "empty_loop", "empty loop", _STEP_CELLS, checked=False),
        _own("loops", "fused_unrolled", "fused cell, unrolled", _STEP_CELLS),
        _own("loops", "empty_unrolled", "empty cell, unrolled", _STEP_CELLS, checked=False),
    ),
    tuple(
        Workload(cell, "inference", case)
        for cell in _STEP_CELLS
        for case in (Case(1, 100, 128, 256), Case(32, 100, 256, 512), Case(64, 50, 128, 128))
    ),
    _step_figures,
)

PARTS = (CALL, GROWTH, THREAD, CROWD, MEMORY, STEP)
