"""Which of the ways to find the nearest centroids is the fastest here: tried on a few of the points in question."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from dclib.cluster.bounded import TRIED
from dclib.cluster.nearest import SEARCHES, has_bfloat16, import_faiss
from dclib.cluster.stored_rows import Rows

BFLOAT16_CLUSTERS, BFLOAT16_WIDTH = 512, 128  # k and d from which products in bfloat16 are faster
WORTH_TRYING = 2**34  # products of two numbers in a whole clustering: half a second of a core, or less
TRIAL_SHARE, LONGEST_TRIAL = 2**-7, 2**31  # of those, in a trial of one way; and at most, a tenth of a second
MOST_ROWS = 4096  # of a trial
TRIALS = 2  # of each way, in turn; the shorter counts

kept: dict[tuple[object, ...], str] = {}  # for as long as the process lives


def fastest_backend(points: Rows, centroids: Tensor, passes: int = 1) -> str:
    """Name of the back-end that assigns ``points`` (n, d) to ``centroids`` (k, d) soonest; any finds the same ones.

    A long clustering on a CPU, of ``passes`` assignments, is worth trials of about a tenth of it, at most a second or
    two; the answer is kept for problems of these sizes, within a factor of two, and this number of threads. Otherwise
    it is bfloat16 where the device has it and there is enough to multiply, else float32.
    """
    (n, d), k = points.shape, len(centroids)
    usable = has_bfloat16(points.dtype, points.device)
    work = n * k * d * passes
    if points.device.type != "cpu" or points.dtype != torch.float32 or work < WORTH_TRYING:
        pays = k >= BFLOAT16_CLUSTERS and d >= BFLOAT16_WIDTH
        return "torch-bf16" if usable and pays else "torch"
    key = (n.bit_length(), k.bit_length(), d, torch.get_num_threads())
    if key not in kept:
        trial = int(min(LONGEST_TRIAL, TRIAL_SHARE * work)) // (k * d)
        seconds = backend_seconds(points, centroids, candidates(usable), max(TRIED, min(MOST_ROWS, trial)))
        kept[key] = min(seconds, key=lambda name: seconds[name])
    return kept[key]


def candidates(has_products: bool) -> list[str]:
    """Back-ends that can run on float32 points on this CPU."""
    found = [name for name in SEARCHES if name != "torch-bf16" or has_products]
    try:
        import_faiss()
    except ValueError:
        found.remove("faiss")
    return found


def backend_seconds(points: Rows, centroids: Tensor, names: list[str], rows: int) -> dict[str, float]:
    """Seconds in which each back-end would assign all ``points``, by what it takes for ``rows`` of them."""
    n, few = len(points), next(iter(points.split(rows)))
    seconds = dict.fromkeys(names, float("inf"))
    for trial in range(TRIALS + 1):
        for name in names:
            start = time.perf_counter()
            search = SEARCHES[name](centroids)
            search(few[:TRIED])
            middle = time.perf_counter()
            search(few)
            end = time.perf_counter()
            if trial:  # the first one warms up
                seconds[name] = min(seconds[name], middle - start + (end - middle) * n / len(few))
    return seconds
