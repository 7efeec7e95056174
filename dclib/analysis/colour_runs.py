"""From a preset to the records of Figures 2 and 3."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dclib.analysis.clusterings import CLUSTERING_ROOMS, analysed_clustering, final_clusters, pool_pixels
from dclib.analysis.colour import ColourSpread, colour_spreads, mean_colours, spread_of
from dclib.config import Preset, config_hash
from dclib.data.images import ImageSet
from dclib.presets import measuring
from dclib.records import Record, write_atomically, write_records
from dclib.train.runs import default_device, is_current, preset_folder, run_card

COLOUR_ROOMS = (*CLUSTERING_ROOMS, "analysis/colour")
METHODS = ("deepercluster_rgb", "rotnet_rgb", "rotnet", "deepercluster", "released")
PICTURED_CLUSTERS, PICTURED_IMAGES = 6, 9


def colour_methods(preset: Preset) -> tuple[str, ...]:
    """The networks of Figure 2 that a preset has, or its released weights."""
    return tuple(method for method in METHODS if method in preset.methods)


@measuring
def colour_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Measure the colours of one network's clusters and write the records; nothing where they are current."""
    pixels, place = pool_pixels(preset, method), torch.device(device or default_device())
    settings = config_hash(preset.analysis, analysed_clustering(preset), pixels.identity)
    card = run_card("colour", preset, method, seed, [pixels], place, settings=settings, rooms=COLOUR_ROOMS)
    path = preset_folder(preset) / "records" / "colour" / f"{method}-s{seed}.json"
    if is_current(path, card):
        return
    images, clusters = final_clusters(preset, method, seed, device=device)
    start = time.monotonic()
    colours, drawn = mean_colours(pixels), preset.analysis.drawn_clusters
    spreads = colour_spreads(colours, clusters, drawn=drawn, rng=np.random.default_rng(seed))
    dealt = np.random.default_rng([seed, 1]).permutation(clusters)  # random clusters of the same sizes
    chance = colour_spreads(colours, dealt, drawn=drawn, rng=np.random.default_rng(seed))
    write_swatches(preset, method, seed, images, clusters, spreads)
    card = replace(card, seconds=round(time.monotonic() - start, 1))
    write_records(path, card, colour_records(spreads, chance, colours))


def colour_records(
    spreads: list[ColourSpread], chance: list[ColourSpread], colours: NDArray[np.float64]
) -> list[Record]:
    """The sorted spreads, those of random clusters, and that of the whole pool, in levels of 0 to 255."""
    records = [
        Record(name=name, value=s.spread, unit="levels", n=s.size, keys={"rank": rank, "cluster": s.cluster})
        for name, found in (("colour_spread", spreads), ("colour_spread_chance", chance))
        for rank, s in enumerate(found)
    ]
    return [*records, Record(name="colour_spread_all", value=spread_of(colours), unit="levels", n=len(colours))]


def write_swatches(
    preset: Preset,
    method: str,
    seed: int,
    images: ImageSet,
    clusters: NDArray[np.int64],
    spreads: list[ColourSpread],
) -> None:
    """Save the most uniform clusters, with their mean colour and some of their images, for Figure 3."""
    rng = np.random.default_rng(seed)
    large_enough = [s for s in spreads if s.size >= PICTURED_IMAGES][:PICTURED_CLUSTERS]
    shown = [
        {
            "cluster": s.cluster,
            "size": s.size,
            "mean": [round(level, 1) for level in s.mean],
            "spread": round(s.spread, 2),
            "images": [images.ids[i] for i in rng.permutation(np.flatnonzero(clusters == s.cluster))[:PICTURED_IMAGES]],
        }
        for s in large_enough
    ]
    path = preset_folder(preset) / "pictures" / f"colour-{method}-s{seed}.json"
    write_atomically(path, json.dumps({"clusters": shown}).encode())
