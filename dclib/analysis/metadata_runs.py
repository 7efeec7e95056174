"""From a preset to the records of Figure 1 and of the cluster pages."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dclib.analysis.clusterings import CLUSTERING_ROOMS, analysed_clustering, final_clusters, pool_pixels
from dclib.analysis.hashtags import count_tags, example_words, gini, normalise_tag, read_tags, spaced_ranks, top_share
from dclib.analysis.metadata import FIELDS, Agreement, agreement, dominated_clusters, field_values, match_photos
from dclib.config import Preset, config_hash
from dclib.data.images import ImageSet
from dclib.data.yfcc_metadata import PhotoMetadata, read_metadata
from dclib.presets import data_root
from dclib.records import DATA, Record, RunCard, code_hash, write_atomically, write_records
from dclib.train.runs import default_device, device_name, is_current, prepare_data, preset_folder, run_card

METADATA_ROOMS = (*CLUSTERING_ROOMS, "analysis/metadata", "analysis/hashtags", "data/yfcc_metadata")
HASHTAG_ROOMS = ("analysis/hashtags", "data/yfcc_metadata")
METHODS = ("deepercluster", "deepcluster", "rotnet", "random", "released")
METADATA_FILES = ("yfcc100m_dataset.tsv", "yfcc100m_dataset", "yfcc100m_dataset.bz2")
DRAWN_RANKS = 200
PICTURED_CLUSTERS, PICTURED_IMAGES = 3, 9  # clusters of each field, and images of each


def metadata_file(preset: Preset) -> Path | None:
    """The metadata of the pool's photographs: ``data.metadata``, or a table beside the pool; None where there is none.

    Raises:
        ValueError: ``data.metadata`` is given and not there.
    """
    if preset.data.metadata:
        given = Path(preset.data.metadata)
        path = given if given.exists() else data_root(preset.data) / preset.data.metadata
        if not path.exists():
            raise ValueError(f"data.metadata names {given}, which is not there; correct it or leave it out")
        return path
    folder = Path(getattr(prepare_data(preset).pool.reader, "root", "."))
    return next((folder / name for name in METADATA_FILES if (folder / name).is_file()), None)


def hashtag_counts(preset: Preset) -> None:
    """Count hashtags and labels and write the records of Figure 1; nothing where there is no metadata."""
    path = metadata_file(preset)
    if path is None:
        return
    objects = prepare_data(preset).objects_train
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    stamp = [(file.name, file.stat().st_size) for file in files]
    card = RunCard(
        stage="hashtags",
        preset=preset.name,
        method=DATA,
        seed=0,
        config_hash=config_hash(DRAWN_RANKS, preset.data.max_bad_metadata),
        data_hash=config_hash(stamp, objects.fingerprint if objects else ""),
        code_hash=code_hash(*HASHTAG_ROOMS),
        device=device_name(torch.device("cpu")),
        seconds=0.0,
    )
    target = preset_folder(preset) / "records" / "hashtags" / "counts.json"
    if is_current(target, card):
        return
    start = time.monotonic()
    photos = read_tags(path, max_bad=preset.data.max_bad_metadata)
    labels: dict[str, int] = {}
    if objects is not None and objects.labels is not None:
        counts = np.bincount(objects.labels, minlength=len(objects.classes))
        labels = dict(zip(objects.classes, counts.tolist(), strict=True))
    card = replace(card, seconds=round(time.monotonic() - start, 1), notes={"photographs": len(photos)})
    write_records(target, card, hashtag_records(photos, labels))


def hashtag_records(photos: list[tuple[str, ...]], labels: Mapping[str, int]) -> list[Record]:
    """Counts at ranks spaced evenly on a logarithmic axis, example words, and how uneven the counts are."""
    tags = count_tags(photos)
    if not tags:
        return []
    n = len(photos)
    by_rank = tags.most_common()
    records = _ranked_counts("hashtag_images", "tag", by_rank, n)
    records += [
        Record(name="hashtag_gini", value=gini(tags.values()), unit="1", n=n),
        Record(name="hashtag_top_share", value=100 * top_share(tags.values()), unit="%", n=n),
        Record(name="hashtag_distinct", value=len(tags), unit="hashtags", n=n),
    ]
    filled = Counter({label: count for label, count in labels.items() if count}).most_common()
    if not filled:
        return records
    n_labelled = sum(count for _, count in filled)
    records += _ranked_counts("label_images", "label", filled, n_labelled)
    records.append(Record(name="label_gini", value=gini(count for _, count in filled), unit="1", n=n_labelled))
    tag_ranks = {tag: rank for rank, (tag, _) in enumerate(by_rank, start=1)}
    label_ranks = {label: rank for rank, (label, _) in enumerate(filled, start=1)}
    for word in example_words(tags, label_ranks):
        tag = normalise_tag(word)
        keys: dict[str, str | int] = {"word": word, "tag_rank": tag_ranks[tag], "label_rank": label_ranks[word]}
        records.append(Record(name="example_tag_images", value=tags[tag], unit="images", n=n, keys=keys))
        records.append(Record(name="example_label_images", value=labels[word], unit="images", n=n_labelled, keys=keys))
    return records


def _ranked_counts(name: str, of: str, by_rank: Sequence[tuple[str, int]], n: int) -> list[Record]:
    """A record at each of some ranks, whose key ``of`` says which word stands there."""
    return [
        Record(name=name, value=by_rank[r - 1][1], unit="images", n=n, keys={"rank": r, of: by_rank[r - 1][0]})
        for r in spaced_ranks(len(by_rank), DRAWN_RANKS)
    ]


def metadata_methods(preset: Preset) -> tuple[str, ...]:
    """The networks whose clusters are compared with metadata."""
    return tuple(method for method in METHODS if method in preset.methods)


def metadata_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Compare one network's clusters with the metadata and write the records; nothing where there is none."""
    path = metadata_file(preset)
    if path is None or path.is_dir() or path.suffix in (".json", ".csv", ".gz"):
        return  # counts of hashtags alone do not belong to the pool's images
    pixels, place = pool_pixels(preset, method), torch.device(device or default_device())
    stamp = (path.name, path.stat().st_size)
    settings = config_hash(preset.analysis, analysed_clustering(preset), pixels.identity, stamp)
    card = run_card("metadata", preset, method, seed, [pixels], place, settings=settings, rooms=METADATA_ROOMS)
    target = preset_folder(preset) / "records" / "metadata" / f"{method}-s{seed}.json"
    if is_current(target, card):
        return
    images, clusters = final_clusters(preset, method, seed, device=device)
    start = time.monotonic()
    table = read_metadata(path, max_bad=preset.data.max_bad_metadata)
    photos = match_photos(images, table)
    records = []
    for field in FIELDS:
        values = field_values(photos, field)
        if len(set(values.values())) > 1:
            records += agreement_records(field, agreement(clusters, values, seed))
    write_cluster_pages(preset, method, seed, images, clusters, photos)
    notes = {**card.notes, "photographs": len(photos), "malformed_lines": len(table.bad_lines)}
    write_records(target, replace(card, seconds=round(time.monotonic() - start, 1), notes=notes), records)


def agreement_records(field: str, found: Agreement) -> list[Record]:
    """What was measured of a field, with its own values and with those dealt out anew."""
    measured = (
        ("metadata_nmi", found.nmi, "real"),
        ("metadata_ami", found.ami, "real"),
        ("metadata_purity", found.purity, "real"),
        ("metadata_nmi", found.chance_nmi, "shuffled"),
        ("metadata_purity", found.chance_purity, "shuffled"),
    )
    return [
        Record(name=name, value=value, unit="1", n=found.n, keys={"field": field, "labels": labels})
        for name, value, labels in measured
    ]


def write_cluster_pages(
    preset: Preset,
    method: str,
    seed: int,
    images: ImageSet,
    clusters: NDArray[np.int64],
    photos: Mapping[int, PhotoMetadata],
) -> None:
    """Save clusters with a dominant hashtag, camera or place: nine images of each at random, and who took them."""
    rng = np.random.default_rng(seed)
    shown = []
    for field in ("hashtag", "device", "gps"):
        for one in dominated_clusters(clusters, photos, field, smallest=PICTURED_IMAGES, count=PICTURED_CLUSTERS):
            rows = rng.permutation(np.flatnonzero(clusters == one.cluster))[:PICTURED_IMAGES].tolist()
            credits = [photos[row].user_nickname if row in photos else "" for row in rows]
            shown.append(
                {
                    "field": field,
                    "value": one.value,
                    "cluster": one.cluster,
                    "size": one.size,
                    "share": one.share,
                    "images": [images.ids[row] for row in rows],
                    "credits": credits,
                }
            )
    path = preset_folder(preset) / "pictures" / f"metadata-{method}-s{seed}.json"
    write_atomically(path, json.dumps({"clusters": shown}).encode())
