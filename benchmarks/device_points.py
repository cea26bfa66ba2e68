"""The points that device.py measures: its own list in order of importance, DeepBench's rows, single ones.

A point is a Workload whose dtype may also be tf32 (float32 tensors, products on TensorFloat-32 units) or
float16. Only cells that torch has on cuDNN: the LSTM, and the GRU that resets after the product.
"""

from dataclasses import replace

from workload import MODES, Case, Workload, suite_cases

POINT_CELLS = ("lstm", "gru_reset_after")
_BOTH = "bidirectional"
POINT_DTYPES = ("float32", "tf32", "float16", "bfloat16")
# Above this many steps a DeepBench row is cut unless its full length is asked for: a step costs the same at
# any T.
DEEPBENCH_STEPS = 375

# (cell, B, T, I, H, dtype, mode, and whether both ways), the most important first: what a time budget cuts
# off is the end.
_LIST = """
lstm 16,1024,768,768 bfloat16 inference
lstm 16,1024,768,768 bfloat16 training
lstm 64,256,1024,1024 bfloat16 training
lstm 64,256,1024,1024 tf32 training
gru_reset_after 64,256,1024,1024 bfloat16 training
lstm 16,1024,768,768 bfloat16 training bidirectional
lstm 32,128,512,512 float32 training
lstm 1,256,256,256 float32 inference
lstm 32,128,512,512 float16 inference
gru_reset_after 32,128,512,512 tf32 training
lstm 128,64,1024,1024 bfloat16 training
lstm 32,64,2048,2048 bfloat16 training
gru_reset_after 1,256,1024,1024 bfloat16 inference
lstm 20,64,333,333 float32 training
lstm 128,128,128,128 float16 training
gru_reset_after 16,1024,256,256 float32 inference
lstm 64,256,1024,1024 float32 training
lstm 64,256,1024,1024 bfloat16 inference
lstm 64,256,1024,1024 bfloat16 training bidirectional
gru_reset_after 32,128,512,512 float32 inference bidirectional
lstm 64,128,1000,1000 bfloat16 training
gru_reset_after 128,64,2048,2048 bfloat16 training
lstm 32,64,2048,2048 tf32 inference
lstm 1,1024,1024,1024 bfloat16 inference
gru_reset_after 64,256,1024,1024 float32 inference
lstm 64,256,1024,1024 float16 training
lstm 1,64,2048,2048 float32 inference
gru_reset_after 20,64,333,333 bfloat16 inference
lstm 16,1024,768,768 float16 training
lstm 16,1024,768,768 tf32 training
gru_reset_after 16,1024,768,768 bfloat16 training
lstm 8,512,256,256 bfloat16 training
lstm 8,512,256,256 float32 inference
gru_reset_after 64,128,1000,1000 tf32 training
lstm 4,256,1536,1536 bfloat16 inference
lstm 32,128,1536,1536 tf32 training
gru_reset_after 128,128,128,128 float32 inference
lstm 128,64,128,512 float32 training
lstm 32,64,1024,512 bfloat16 training
gru_reset_after 32,64,2048,2048 float16 inference
lstm 2,512,512,512 float16 inference
lstm 128,64,1024,1024 tf32 inference
gru_reset_after 8,1024,512,512 bfloat16 training
"""


class PointError(ValueError):
    """A point that cannot be measured; the message says why, in one line."""


def parse_point(text: str) -> Workload:
    """`cell,B,T,I,H,dtype,mode` as --point takes it, `,bidirectional` behind it for both directions."""
    one_way = text.removesuffix(f",{_BOTH}")
    parts = one_way.split(",")
    if len(parts) != 7:
        raise PointError(f"a point is cell,B,T,I,H,dtype,mode, got {text}")
    cell, *sizes, dtype, mode = parts
    for value, known, what in (
        (cell, POINT_CELLS, "cell"),
        (dtype, POINT_DTYPES, "dtype"),
        (mode, MODES, "mode"),
    ):
        if value not in known:
            raise PointError(f"{what} must be one of {', '.join(known)}, got {value}")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise PointError(f"B, T, I and H must be whole numbers above 0, got {','.join(sizes)}")
    return Workload(cell, mode, Case(*map(int, sizes)), dtype, 1 if one_way == text else 2)


def format_point(point: Workload) -> str:
    """The way back."""
    both = f",{_BOTH}" if point.directions == 2 else ""
    return f"{point.cell},{point.case},{point.dtype},{point.mode}{both}"


def all_points() -> list[Workload]:
    """The list of --all."""
    rows = [line.split() for line in _LIST.strip().splitlines()]
    return [parse_point(",".join(row)) for row in rows]


def deepbench_points(dtypes: tuple[str, ...], full: bool) -> list[Workload]:
    """DeepBench's LSTM and GRU rows, short ones first; T at most DEEPBENCH_STEPS unless `full`."""
    points = []
    for dtype in dtypes:
        for cell in POINT_CELLS:
            for mode in MODES:
                for case in suite_cases("deepbench", cell, mode):
                    steps = case.steps if full else min(case.steps, DEEPBENCH_STEPS)
                    points.append(Workload(cell, mode, replace(case, steps=steps), dtype))
    return sorted(points, key=lambda point: point.flop)
