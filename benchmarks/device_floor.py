"""The least time that a GPU of measured limits needs for a sequence: what a share of the floor is a share of.

A call takes at least the longest of three times, and one launch for each direction:

    floor = launches * launch + max(T * step, flop / rate, bytes / memory bandwidth)

flop and bytes are those of the whole call: the input product, and in training the gradients; every tensor
moved once. What must happen step by step is only the recurrent product, and a step is

    step = wait + max(exchange + stream, shared, product)        the least over all ways to share the work

A way divides the batch among b groups of g multiprocessors, b * g at most all of them. A group holds all of
R, 1/g of it in each multiprocessor, and its rows of the batch, ceil(B / b) of them:
  wait      nobody starts a step before h is complete: one meeting of the group, cluster-wide where a cluster
            holds the group, else grid-wide (as measured for all multiprocessors: so a grid of several groups
            may beat it a little)
  exchange  each multiprocessor reads the h of all units of its rows, rows * H values, from L2 or, in a
            cluster, from its neighbours' shared memory. Backward it is d_z, G times as wide
  stream    what of R does not fit on the chip is read again at each step, from L2 while it fits there, else
            from memory. A multiprocessor keeps R in its shared memory and in half its registers
  shared    what of R lies in shared memory is read once a step
  product   2 * rows * H * G*H / g flop at a multiprocessor's share of the rate; tensor units work on 8 rows
            at a time
The two directions of a bidirectional layer have half of the multiprocessors each, or all in turn.
Latency inside a step, the cell itself and the packing of R are left out, so a floor is not reached; short
steps stay further away from it than long ones. Rates are the better of a loop of mma.sync (FFMA in float32)
and of the library's large product.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from workload import GATES, Workload

_ROWS_OF_A_TILE = 8
_VALUE_BYTES = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2}
# Values of each unit and step that the backward pass cannot do without: the gates, and c in the LSTM.
_KEPT = {"lstm": 5, "gru_reset_after": 4}


@dataclass(frozen=True)
class DeviceLimits:
    """What a GPU can do at most; bandwidths and rates of the whole chip, per second."""

    name: str
    sms: int
    shared_bytes: int  # of one multiprocessor, as registers are
    register_bytes: int
    l2_bytes: int
    memory_bandwidth: float
    l2_bandwidth: float
    shared_bandwidth: float
    grid_wait: float  # seconds
    launch: float
    rates: dict[str, float]  # flop/s by dtype
    cluster_size: int = 1  # 1: no clusters
    cluster_wait: float = 0.0
    cluster_bandwidth: float = 0.0

    @property
    def kept_bytes(self) -> int:
        """Bytes of R that one multiprocessor can keep."""
        return self.shared_bytes + self.register_bytes // 2


# By datasheet and by what others measured; for --dry-run only.
H200_DATASHEET = DeviceLimits(
    name="NVIDIA H200 (datasheet)",
    sms=132,
    shared_bytes=227 << 10,
    register_bytes=256 << 10,
    l2_bytes=50 << 20,
    memory_bandwidth=4.8e12,
    l2_bandwidth=5.5e12,
    shared_bandwidth=33e12,
    grid_wait=1.0e-6,
    launch=2.0e-6,
    rates={"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12},
    cluster_size=16,
    cluster_wait=0.15e-6,
    cluster_bandwidth=5.5e12,
)


def limits_from_measurements(found: dict[str, Any], products: dict[str, float]) -> DeviceLimits:
    """What device_limits.cu printed, and the library's rates by dtype in flop/s -> limits.

    Medians; of two ways to do the same the better one.
    """

    def best(*names: str, of: Any = max) -> float:
        return float(of(median(found[name]) for name in names))

    tensor = {"tf32": best("mma_sync_tf32_tflop_s") * 1e12}
    tensor["float16"] = tensor["bfloat16"] = best("mma_sync_bf16_tflop_s") * 1e12
    rates = {"float32": best("fma_float32_tflop_s") * 1e12} | tensor
    sizes = [size for size in (8, 16) if f"cluster_wait_{size}_us" in found]
    size = max(sizes, default=1)
    return DeviceLimits(
        name=found["name"],
        sms=found["sms"],
        shared_bytes=found["shared_bytes"],
        register_bytes=found["register_bytes"],
        l2_bytes=found["l2_bytes"],
        memory_bandwidth=best("memory_copy_kernel_tb_s", "memory_copy_library_tb_s") * 1e12,
        l2_bandwidth=best("l2_read_tb_s") * 1e12,
        shared_bandwidth=best("shared_read_tb_s") * 1e12,
        grid_wait=best("grid_wait_counter_us", "grid_wait_flags_us", of=min) * 1e-6,
        launch=best("launch_us") * 1e-6,
        rates={dtype: max(rate, products.get(dtype, 0.0)) for dtype, rate in rates.items()},
        cluster_size=size,
        cluster_wait=best(f"cluster_wait_{size}_us") * 1e-6 if sizes else 0.0,
        cluster_bandwidth=best(f"cluster_read_{size}_tb_s") * 1e12 if sizes else 0.0,
    )


def _ways(batch: int, limits: DeviceLimits, sms: int) -> Iterator[tuple[int, int]]:
    """(b, g): groups, and multiprocessors in each, of so many."""
    for groups in range(1, min(batch, sms) + 1):
        share = sms // groups
        yield groups, share
        if 1 < limits.cluster_size < share:
            yield groups, limits.cluster_size


def step_seconds(point: Workload, limits: DeviceLimits, backward: bool = False) -> float:
    """The least time of one step of the recurrence, of all directions."""
    return min(
        point.directions // side_by_side * _step_of_way(point, limits, backward, *way)
        for side_by_side in range(1, point.directions + 1)
        for way in _ways(point.case.batch, limits, limits.sms // side_by_side)
    )


def _step_of_way(point: Workload, limits: DeviceLimits, backward: bool, groups: int, share: int) -> float:
    gates, hidden, value = GATES[point.cell], point.case.hidden, _VALUE_BYTES[point.dtype]
    in_cluster = share <= limits.cluster_size
    rows = math.ceil(point.case.batch / groups)
    weights = hidden * gates * hidden * value / share
    exchanged = rows * hidden * value * (gates if backward else 1)
    streamed = max(0.0, weights - limits.kept_bytes)
    in_shared = max(0.0, weights - streamed - limits.register_bytes // 2)
    fits_l2 = hidden * gates * hidden * value <= limits.l2_bytes
    stream_bandwidth = limits.l2_bandwidth if fits_l2 else limits.memory_bandwidth
    rows_done = rows if point.dtype == "float32" else _ROWS_OF_A_TILE * math.ceil(rows / _ROWS_OF_A_TILE)
    flop = 2 * rows_done * hidden * gates * hidden / share
    exchange = exchanged / (
        limits.cluster_bandwidth if in_cluster and limits.cluster_bandwidth else limits.l2_bandwidth
    )
    return (
        limits.cluster_wait if in_cluster and limits.cluster_wait else limits.grid_wait
    ) + limits.sms * max(
        exchange + streamed / stream_bandwidth,
        in_shared / limits.shared_bandwidth,
        flop / limits.rates[point.dtype],
    )


def moved_bytes(point: Workload) -> int:
    """Bytes of every tensor of the call, each moved once; what the forward pass keeps is written and read."""
    case, gates, value = point.case, GATES[point.cell], _VALUE_BYTES[point.dtype]
    steps = case.steps * case.batch
    weights = (case.inputs + case.hidden) * gates * case.hidden
    forward = steps * (case.inputs + case.hidden) + weights
    value *= point.directions
    if point.mode == "inference":
        return forward * value
    kept = steps * _KEPT[point.cell] * case.hidden
    # Backward: x, y and d_y are read and d_x written; the weights are read and their gradients written.
    backward = steps * (2 * case.inputs + 2 * case.hidden) + 2 * weights
    return (forward + 2 * kept + backward) * value


def floor_seconds(point: Workload, limits: DeviceLimits) -> float:
    """The least time of a call."""
    training = point.mode == "training"
    step = step_seconds(point, limits) + (step_seconds(point, limits, backward=True) if training else 0.0)
    return (2 if training else 1) * limits.launch + max(
        point.case.steps * step,
        point.flop / limits.rates[point.dtype],
        moved_bytes(point) / limits.memory_bandwidth,
    )
