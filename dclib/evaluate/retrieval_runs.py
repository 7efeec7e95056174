"""From a preset to the records of Table 3."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import numpy as np
import torch

from dclib.config import Preset, config_hash
from dclib.data.contents import content_hashes
from dclib.data.images import ImageSet
from dclib.data.landmarks import CORRUPTED_PARIS, Landmarks, open_landmarks
from dclib.evaluate.networks import trained_network
from dclib.evaluate.retrieval import (
    Described,
    Ranked,
    check_landmarks,
    describe_landmarks,
    learn_whitening,
    rank_queries,
)
from dclib.presets import measuring
from dclib.records import Record, RunCard, code_hash, write_atomically, write_records
from dclib.train.runnable import CITIES, city_folders, retrieval_fault
from dclib.train.runs import (
    default_device,
    device_name,
    is_current,
    method_chain,
    method_pixels,
    pixel_cache,
    prepare_data,
    preset_folder,
)
from dclib.train.start import ROOMS, weights_hash

RETRIEVAL_ROOMS = (*ROOMS, "evaluate/retrieval", "evaluate/rmac", "data/landmarks")
PICTURED_RESULTS = 8
PICTURED_QUERIES = 4


def open_cities(preset: Preset) -> dict[str, tuple[ImageSet, Landmarks]]:
    """Images and ground truth of Oxford5K and Paris6K; empty, and it is said why, where both are not as they should."""
    root = prepare_data(preset).root
    if fault := retrieval_fault(preset, root):
        print(f"retrieval is left out: {fault}")
        return {}
    folders = city_folders(preset, root)
    ignored = {"oxford": frozenset[str](), "paris": CORRUPTED_PARIS}
    return {city: open_landmarks(folders[city], ignore=ignored[city]) for city in CITIES}


@measuring
def retrieve_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Rank both cities with one trained network and write the records.

    Nothing is computed where current records are there, or where the preset has no landmarks.
    """
    preset.method(method)
    cities = open_cities(preset)
    if not cities:
        return
    place = torch.device(device or default_device())
    card = _card(preset, method, seed, cities, place)
    path = preset_folder(preset) / "records" / "retrieval" / f"{method}-s{seed}.json"
    if is_current(path, card):
        return
    for images, landmarks in cities.values():
        check_landmarks(images, landmarks)
    trunk = trained_network(preset, method, seed, device=str(place))
    start = time.monotonic()
    described = {}
    for city, (images, landmarks) in cities.items():
        [content] = content_hashes([images], pixel_cache())
        key = config_hash(weights_hash(trunk), asdict(preset.retrieval), content, card.code_hash)
        cache = preset_folder(preset) / "runs" / f"retrieval-{method}-s{seed}-{city}-{key}"
        described[city] = describe_landmarks(trunk, images, landmarks, **asdict(preset.retrieval), cache=cache)
        _refuse_too_many(described[city], preset.data.max_unreadable, city)
    whitenings = {city: learn_whitening(described[city]) for city in CITIES}
    ranked = {
        city: rank_queries(described[city], whitenings[other]) for city, other in zip(CITIES, CITIES[::-1], strict=True)
    }
    unreadable = sum(len(d.unreadable) for d in described.values())
    seconds = round(time.monotonic() - start, 1)
    write_rankings(preset, method, seed, ranked)
    card = replace(card, seconds=seconds, notes={**card.notes, "unreadable": unreadable})
    write_records(path, card, retrieval_records(ranked))
    print(f"retrieval, {method}, seed {seed}: " + ", ".join(f"{c} {_mean(r):.1f} %" for c, r in ranked.items()))


def retrieval_records(ranked: dict[str, list[Ranked]]) -> list[Record]:
    """Mean average precision of each city over its queries, and each query's own, %."""
    records = []
    for city, found in ranked.items():
        keys: dict[str, str | int] = {"dataset": city}
        records.append(Record(name="retrieval_map", value=_mean(found), unit="%", n=len(found), keys=keys))
        records += [
            Record(
                name="retrieval_ap",
                value=100 * r.average_precision,
                unit="%",
                n=len(r.query.positives),
                keys={**keys, "query": r.query.name},
            )
            for r in found
        ]
    return records


def write_rankings(preset: Preset, method: str, seed: int, ranked: dict[str, list[Ranked]]) -> None:
    """Save the first results of some queries, spread from the best found to the worst, for the page's pictures."""
    shown = {}
    for city, found in ranked.items():
        order = np.argsort([-r.average_precision for r in found], kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, min(PICTURED_QUERIES, len(order))).round().astype(int)]
        shown[city] = [_ranking(found[i]) for i in chosen]
    path = preset_folder(preset) / "pictures" / f"retrieval-{method}-s{seed}.json"
    write_atomically(path, json.dumps(shown).encode())


def _ranking(ranked: Ranked) -> dict[str, object]:
    query = ranked.query

    def kind(name: str) -> str:
        return "right" if name in query.positives else "junk" if name in query.junk else "wrong"

    results = [{"name": name, "kind": kind(name)} for name in ranked.names[:PICTURED_RESULTS]]
    return {
        "query": query.name,
        "image": query.image,
        "box": list(query.box),
        "average_precision": 100 * ranked.average_precision,
        "results": results,
    }


def _card(
    preset: Preset, method: str, seed: int, cities: dict[str, tuple[ImageSet, Landmarks]], device: torch.device
) -> RunCard:
    truths = [config_hash([asdict(q) for q in landmarks.queries]) for _, landmarks in cities.values()]
    trained_on = "" if preset.method(method).weights else method_pixels(preset, method, prepare_data(preset)).identity
    return RunCard(
        stage="retrieval",
        preset=preset.name,
        method=method,
        seed=seed,
        config_hash=config_hash(method_chain(preset, method), preset.retrieval, truths, trained_on),
        data_hash=config_hash(content_hashes([images for images, _ in cities.values()], pixel_cache())),
        code_hash=code_hash(*RETRIEVAL_ROOMS),
        device=device_name(device, "float32"),
        seconds=0.0,
        config=asdict(preset.method(method)),
        notes={
            "images": sum(len(images) for images, _ in cities.values()),
            "longest_side": preset.retrieval.longest_side,
            "levels": preset.retrieval.levels,
        },
    )


def _refuse_too_many(described: Described, limit: float, city: str) -> None:
    n, bad = len(described.landmarks.images), described.unreadable
    if len(bad) > limit * n:
        raise ValueError(
            f"{len(bad)} of {n} images of {city} are unreadable, more than the {limit:.1%} that data.max_unreadable "
            f"allows; the first: {', '.join(bad[:5])}. Fetch them again, or raise the limit"
        )


def _mean(found: list[Ranked]) -> float:
    return 100 * float(np.mean([r.average_precision for r in found]))
