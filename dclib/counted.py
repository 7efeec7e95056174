"""Networks that differ from a method of a preset in one count: of the images it learns from, or of its clusters.

They are made of the preset, not listed in it: no page shows them but the one that is about counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from dclib.config import DataConfig, MethodConfig, Preset
from dclib.methods import OUTLINES

Kind = Literal["images", "clusters"]
NAME = re.compile(r"(\w+?)_(?:on_(\d+)_images|in_(\d+)_clusters)")


@dataclass(frozen=True)
class Count:
    """One count of one method, changed."""

    method: str  # of the preset
    kind: Kind
    value: int

    @property
    def name(self) -> str:
        """Of the network: ``rotnet_on_1250_images``, ``deepercluster_in_64_clusters``."""
        return f"{self.method}_{'on' if self.kind == 'images' else 'in'}_{self.value}_{self.kind}"


def count_of(name: str) -> Count | None:
    """What the name of a network says; None for one that is no such network."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    method, images, clusters = found.groups()
    return Count(method, "images", int(images)) if images else Count(method, "clusters", int(clusters))


def counted(preset: Preset, names: Iterable[str] = ()) -> Preset:
    """The preset with the networks that its ``counts`` ask for behind its own, and those of ``names`` that are such.

    Raises:
        ValueError: a network cannot be made of the preset, or would not be trained with as many passes.
    """
    named = (count for name in names if (count := count_of(name)) and count.method in preset.methods)
    made = {count.name: vary(preset, count) for count in (*asked(preset), *named)}
    return replace(preset, methods={**preset.methods, **made})


def compared(preset: Preset) -> tuple[str, ...]:
    """The networks that are measured for the counts that a preset asks for: with the methods as they are."""
    found = [count.name for count in asked(preset)]
    return tuple(dict.fromkeys((*(preset.counts.methods if found else ()), *found)))


def asked(preset: Preset) -> Iterator[Count]:
    """The counts that a preset asks for, without those that its methods have anyway."""
    counts, size = preset.counts, pool_size(preset.data)
    for method in counts.methods if counts.images or counts.clusters else ():
        config = preset.method(method)
        yield from (Count(method, "images", value) for value in counts.images if value != size)
        if config.clusters:
            own = config.cluster.n_clusters
            yield from (Count(method, "clusters", value) for value in counts.clusters if value != own)


def vary(preset: Preset, count: Count) -> MethodConfig:
    """The settings of one network."""
    config, where = preset.method(count.method), f"counts: {count.name}"
    if config.init or config.images != "pool" or OUTLINES[config.method].learns_from != "pool":
        raise ValueError(f"{where} needs a method that learns from the pool and from no other network's weights")
    if count.kind == "images":
        if not config.train.epoch_images:
            raise ValueError(f"{where} needs train.epoch_images, for as many passes on fewer images; got 0")
        if (size := pool_size(preset.data)) and count.value > size:
            raise ValueError(f"{where} needs at most the {size:,} images of the pool; got {count.value:,}")
        made = replace(config, pool_images=count.value)
    else:
        n_sub, rest = divmod(count.value, config.cluster.n_super)
        if rest or not config.clusters:
            raise ValueError(f"{where} needs a method with clusters, and a multiple of its {config.cluster.n_super}")
        made = replace(config, cluster=replace(config.cluster, n_sub=n_sub))
    n_images, k = made.pool_images or pool_size(preset.data), made.cluster.n_clusters
    if made.clusters and 0 < n_images < k:
        raise ValueError(f"{where} needs at least one image per cluster; got {n_images:,} for {k:,}")
    return made


def pool_size(data: DataConfig) -> int:
    """Images of the pool, as far as the settings tell; 0 where only its folder does."""
    drawn = data.pocket_images if data.is_drawn else 0
    return min(filter(None, (drawn, data.pool_images)), default=0)
