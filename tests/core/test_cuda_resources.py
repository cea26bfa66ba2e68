"""benchmarks/cuda_resources.py, on reports as nvcc writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

import cuda_resources
from cuda_resources import ReportError, docs_problem, docs_table, parse_report, read_reports, shorten
from docs_table import TableError, read_table, write_table

LSTM = "_ZN9fused_rnn4cuda25persistent_forward_kernelINS_4LstmEfEEvNS0_17PersistentForwardIT0_EE"
GRU = LSTM.replace("4Lstm", "3Gru")


def entry(name: str, gpu: str, registers: int, memory: tuple[int, int, int] = (0, 0, 0)) -> str:
    stack, stores, loads = memory
    return f"""\
ptxas info    : Compiling entry function '{name}' for '{gpu}'
ptxas info    : Function properties for {name}
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, 48 bytes smem, 808 bytes cmem[0]
ptxas info    : Compile time = 737.014 ms
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "persistent_forward_float32.txt"
    text = "ptxas info    : 0 bytes gmem\n" + entry(LSTM, "sm_80", 241) + entry(GRU, "sm_80", 251)
    path.write_text(text + entry(LSTM, "sm_90", 239) + entry(GRU, "sm_90", 252))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["cuda_resources.py", *map(str, arguments)])
    return cuda_resources.main()


def test_the_most_of_all_gpus_counts(
    report: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, report) == 0
    head, gru, lstm, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["source", "kernel", "registers", "shared", "stack", "spilled"]
    source = "persistent_forward_float32"
    assert gru.split() == [source, "persistent_forward_kernel<Gru,", "float32>", "252", "48", "0", "0"]
    assert lstm.split()[3] == "241"
    assert last.startswith("2 kernels on sm_80, sm_90: at most 252 registers")


@pytest.mark.parametrize("memory", [(16, 0, 0), (320, 376, 396)], ids=["stack", "spills"])
def test_local_memory_is_a_failure(
    report: Path,
    memory: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report.write_text(report.read_text() + entry(LSTM, "sm_120", 255, memory))
    assert run(monkeypatch, report) == 1
    stack, spilled = memory[0], memory[1] + memory[2]
    assert capsys.readouterr().err.strip() == (
        "persistent_forward_float32: persistent_forward_kernel<Lstm, float32> uses local memory on sm_120: "
        f"{stack} bytes of stack, {spilled} spilled"
    )


def test_what_a_kernel_calls_counts_too() -> None:
    called = "\n".join(entry("_Z4slowv", "", 0, (8, 0, 0)).splitlines()[1:3])
    found = parse_report(entry(LSTM, "sm_80", 100) + called, "source")
    assert found["_Z4slowv"].to_blame == {"sm_80"} and not found[LSTM].to_blame


def test_names_are_short() -> None:
    for name, short in (
        (
            "void fused_rnn::cuda::step_forward_kernel<fused_rnn::Lstm, 0, __half, "
            "fused_rnn::cuda::Tile<float, 4, 2, 16, 128> >(fused_rnn::cuda::StepForward<__half>)",
            "step_forward_kernel<Lstm, 0, float16, tile 4x2x16x128>",
        ),
        (
            "void fused_rnn::cuda::sum_rows_kernel<double>(fused_rnn::cuda::SumRows<double>)",
            "sum_rows_kernel<float64>",
        ),
        (
            "fused_rnn::cuda::(anonymous namespace)::store_lengths_kernel(fused_rnn::Lengths)",
            "store_lengths_kernel",
        ),
    ):
        assert shorten(name) == short


def test_a_report_without_kernels_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "source.txt"
    path.write_text("nvcc fatal   : no such file")
    with pytest.raises(ReportError, match="no kernel: nvcc fatal"):
        read_reports([path])
    assert run(monkeypatch, path) == 1
    assert "source: nvcc reported no kernel" in capsys.readouterr().err


def test_the_documents_table_is_compared_for_the_same_compiler(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "gpu.md"
    document.write_text("before\n<!-- table: resources -->\n<!-- end: resources -->\nafter\n")
    monkeypatch.setattr(cuda_resources, "read_table", lambda name: read_table(name, document))
    monkeypatch.setattr(cuda_resources, "write_table", lambda name, lines: write_table(name, lines, document))
    table = docs_table(read_reports([report]), "13.0")
    assert docs_problem(table, write=True) is None
    assert document.read_text().startswith("before\n") and document.read_text().endswith("after\n")
    assert "| `persistent_forward_float32` | 2 | 241 to 252 | 48 | 0 | 0 |" in document.read_text()
    other = [line.replace("252", "200") for line in table]
    assert "--docs write" in str(docs_problem(other, write=False))
    assert docs_problem([other[0].replace("13.0", "12.4"), *other[1:]], write=False) is None
    with pytest.raises(TableError, match="needs one line"):
        read_table("registers", document)
