"""Features of whole image sets: one pass, evaluation mode, no augmentation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from dclib.cluster.stored_rows import StoredRows
from dclib.config import DataConfig
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels, load_pixels
from dclib.distributed import all_reduce_max, leave_if_requested, shard, wait_for_all
from dclib.models.device import products_in, send
from dclib.models.vgg import Trunk

FEATURE_BATCH = 256  # images per forward pass; a stored matrix's files are whole batches
PAPER_RESIZE = 256 / 224  # short side before the centre crop, in units of the input


class Features(NamedTuple):
    """Features and the images they are of: row ``i`` of ``values`` is image ``images.ids[i]``."""

    values: Tensor  # (n, feature_dim) float32 on the CPU
    images: ImageSet  # without those that cannot be read

    @property
    def shape(self) -> torch.Size:
        """(n, feature_dim)."""
        return self.values.shape


@torch.no_grad()
def extract_features(
    trunk: Trunk,
    images: ImageSet | Pixels,
    *,
    batch_size: int = FEATURE_BATCH,
    report: Callable[[str], None] = print,
) -> Features:
    """The trunk's output for every image: what is clustered, before any non-linearity.

    Args:
        trunk: Put in evaluation mode for the pass (no dropout, batch norm's running statistics), then put back.
        images: A set, resized and centre-cropped as in the paper, or pixels that are ready.
        report: Told which images of a set are left out, since they cannot be read.

    Returns:
        The features, in the order of the images, and the set of those that have some.
    """
    if isinstance(images, ImageSet):
        size = trunk.config.image_size
        images = load_pixels(images, DataConfig(resize=round(size * PAPER_RESIZE)), size, scan=True)
        if images.note:
            report(images.note)
    features = torch.empty(len(images), trunk.config.feature_dim)
    start = 0
    for batch in feature_batches(trunk, images, range(len(images)), batch_size):
        features[start : start + len(batch)] = batch
        start += len(batch)
    return Features(features, images.images)


def store_features(trunk: Trunk, pixels: Pixels, stored: StoredRows, precision: str = "float32") -> StoredRows:
    """The same features, kept on disk as they are made; each process makes its share of the files.

    Files that an interrupted pass has left whole are taken as they are.

    Args:
        stored: Where they go; one row per image, ``feature_dim`` columns.
        precision: Of the network's matrix products, ``"float32"`` or ``"bfloat16"``; not of what is stored.

    Raises:
        FloatingPointError: a feature is not finite, or does not fit the precision.
        OSError: the disk cannot hold them, found before the first is made.
        PreemptedError: a process was asked to leave; the files so far are kept.
    """
    stored.check_space()
    missing = [file for file in shard(stored.n_files) if not stored.is_written(file)]
    written = _write_files(trunk, pixels, stored, missing, precision)
    for _ in range(int(all_reduce_max(torch.tensor(len(missing))))):  # so that all ranks ask each other equally often
        next(written, None)
        leave_if_requested()
    wait_for_all()
    return stored


@torch.no_grad()
def feature_batches(
    trunk: Trunk, pixels: Pixels, rows: range, batch_size: int, precision: str = "float32"
) -> Generator[Tensor, None, None]:
    """Features of some rows in order, (b, feature_dim) float32 on the CPU; the network's mode is put back."""
    device = next(trunk.parameters()).device
    was_training = trunk.training
    trunk.eval()
    try:
        for batch in pixels.centre_batches(batch_size, rows.start, rows.stop):
            with products_in(precision, device):
                features = trunk(send(batch, device, torch.channels_last))
            yield features.float().cpu()
    finally:
        trunk.train(was_training)


def _write_files(
    trunk: Trunk, pixels: Pixels, stored: StoredRows, files: Sequence[int], precision: str
) -> Iterator[int]:
    """Make and write these files, one for each step of the iterator; files in a row share a pass."""
    for _, run in groupby(enumerate(files), key=lambda item: item[1] - item[0]):
        together = [file for _, file in run]
        waiting: list[Tensor] = []
        rows = stored.rows_in(range(together[0], together[-1] + 1))
        batches = feature_batches(trunk, pixels, rows, FEATURE_BATCH, precision)
        for file in together:
            while sum(map(len, waiting)) < len(stored.file_rows(file)):
                waiting.append(next(batches))
            stored.write(file, torch.cat(waiting))
            waiting = []
            yield file
        batches.close()
