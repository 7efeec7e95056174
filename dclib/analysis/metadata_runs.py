"""From a preset to the records of Figure 1 and of the cluster pages."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dclib.analysis.clusterings import CLUSTERING_ROOMS, analysed_clustering, final_clusters, pool_pixels
from dclib.analysis.hashtags import (
    RankedTags,
    example_words,
    gini,
    rank_table_tags,
    rank_tags,
    read_tags,
    spaced_ranks,
    top_share,
)
from dclib.analysis.metadata import FIELDS, Agreement, ClusteredPhotos, MatchedPhotos, match_photos
from dclib.analysis.metadata_queries import table_photos
from dclib.config import Preset, config_hash
from dclib.data.folders import changed_at
from dclib.data.images import ImageSet
from dclib.data.metadata_table import TableFacts, import_metadata, is_large, table_facts
from dclib.data.yfcc_metadata import MetadataTable, normalise_tag, read_metadata, table_beside
from dclib.presets import data_root, measuring, runs_folder
from dclib.records import DATA, Record, RunCard, code_hash, write_atomically, write_records
from dclib.train.runnable import metadata_fault
from dclib.train.runs import default_device, device_name, is_current, prepare_data, preset_folder, run_card

TABLE_ROOMS = ("analysis/hashtags", "data/yfcc_metadata", "data/metadata_table")
METADATA_ROOMS = (*CLUSTERING_ROOMS, *TABLE_ROOMS, "analysis/metadata", "analysis/metadata_queries")
METHODS = ("deepercluster", "deepcluster", "rotnet", "random", "released")
DRAWN_RANKS = 200
PICTURED_CLUSTERS, PICTURED_IMAGES = 3, 9  # clusters of each field, and images of each


def metadata_file(preset: Preset) -> Path | None:
    """The metadata of the pool's photographs: ``data.metadata``, or a readable table beside the pool; else None.

    Raises:
        ValueError: ``data.metadata`` is given and not there.
    """
    if preset.data.metadata:
        given = Path(preset.data.metadata)
        path = given if given.exists() else data_root(preset.data) / preset.data.metadata
        if not path.exists():
            raise ValueError(f"data.metadata names {given}, which is not there; correct it or leave it out")
        return path
    pool = prepare_data(preset).pool
    return None if metadata_fault(preset, pool) else table_beside(pool)


@measuring
def hashtag_counts(preset: Preset) -> None:
    """Count hashtags and labels and write the records of Figure 1; nothing where there is no metadata."""
    path = metadata_file(preset)
    if path is None:
        return
    objects, stamp = prepare_data(preset).objects_train, _stamp(path)
    card = RunCard(
        stage="hashtags",
        preset=preset.name,
        method=DATA,
        seed=0,
        config_hash=config_hash(DRAWN_RANKS, preset.data.max_bad_metadata, stamp),
        data_hash=config_hash([named[:2] for named in stamp], objects.fingerprint if objects else ""),
        code_hash=code_hash(*TABLE_ROOMS),
        device=device_name(torch.device("cpu")),
        seconds=0.0,
    )
    target = preset_folder(preset) / "records" / "hashtags" / "counts.json"
    if is_current(target, card):
        return
    start = time.monotonic()
    labels: dict[str, int] = {}
    if objects is not None and objects.labels is not None:
        counts = np.bincount(objects.labels, minlength=len(objects.classes))
        labels = dict(zip(objects.classes, counts.tolist(), strict=True))
    ranked, without = ranked_tags(preset, path, labels)
    notes = {"photographs": ranked.photographs, **without}
    card = replace(card, seconds=round(time.monotonic() - start, 1), notes=notes)
    write_records(target, card, hashtag_records(ranked, labels))


def ranked_tags(preset: Preset, path: Path, words: Collection[str]) -> tuple[RankedTags, dict[str, int]]:
    """The hashtags of a metadata file, counted in memory or, where it is large, in a table; and what was left out."""
    if not is_table(path):
        return rank_tags(read_tags(path), words, DRAWN_RANKS), left_out(MetadataTable(()))
    if is_large(path):
        table = kept_table(preset, path)
        return rank_table_tags(table, words, DRAWN_RANKS), left_out(table_facts(table))
    lines = read_metadata(path, max_bad=preset.data.max_bad_metadata)
    return rank_tags([photo.user_tags for photo in lines], words, DRAWN_RANKS), left_out(lines)


def left_out(read: MetadataTable | TableFacts) -> dict[str, int]:
    """Lines of a metadata table that are about no photograph, or about nothing that can be read."""
    return {"videos": read.n_videos, "malformed_lines": read.n_bad}


def is_table(path: Path) -> bool:
    """Whether metadata is in the form of YFCC100M's table; other forms hold hashtags alone."""
    return not path.is_dir() and path.suffix not in (".json", ".csv", ".gz")


def kept_table(preset: Preset, path: Path) -> Path:
    """The imported table of a metadata file too large for memory, made once for all runs."""
    return import_metadata(path, runs_folder() / "metadata", max_bad=preset.data.max_bad_metadata)


def hashtag_records(tags: RankedTags, labels: Mapping[str, int]) -> list[Record]:
    """Counts at ranks spaced evenly on a logarithmic axis, example words, and how uneven the counts are."""
    if not len(tags.counts):
        return []
    n = tags.photographs
    records = [
        Record(name="hashtag_images", value=int(tags.counts[r - 1]), unit="images", n=n, keys={"rank": r, "tag": tag})
        for r, tag in tags.at_rank.items()
    ]
    records += [
        Record(name="hashtag_gini", value=gini(tags.counts), unit="1", n=n),
        Record(name="hashtag_top_share", value=100 * top_share(tags.counts), unit="%", n=n),
        Record(name="hashtag_distinct", value=len(tags.counts), unit="hashtags", n=n),
    ]
    filled = Counter({label: count for label, count in labels.items() if count}).most_common()
    if not filled:
        return records
    n_labelled = sum(count for _, count in filled)
    records += [
        Record(name="label_images", value=count, unit="images", n=n_labelled, keys={"rank": r, "label": label})
        for r in spaced_ranks(len(filled), DRAWN_RANKS)
        for label, count in (filled[r - 1],)
    ]
    records.append(Record(name="label_gini", value=gini(count for _, count in filled), unit="1", n=n_labelled))
    uses = {tag: int(tags.counts[rank - 1]) for tag, rank in tags.ranks.items()}
    label_ranks = {label: rank for rank, (label, _) in enumerate(filled, start=1)}
    for word in example_words(uses, label_ranks):
        tag = normalise_tag(word)
        keys: dict[str, str | int] = {"word": word, "tag_rank": tags.ranks[tag], "label_rank": label_ranks[word]}
        records.append(Record(name="example_tag_images", value=uses[tag], unit="images", n=n, keys=keys))
        records.append(Record(name="example_label_images", value=labels[word], unit="images", n=n_labelled, keys=keys))
    return records


def metadata_methods(preset: Preset) -> tuple[str, ...]:
    """The networks whose clusters are compared with metadata."""
    return tuple(method for method in METHODS if method in preset.methods)


@measuring
def metadata_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Compare one network's clusters with the metadata and write the records; nothing where there is none."""
    path = metadata_file(preset)
    if path is None or not is_table(path):
        return  # counts of hashtags alone do not belong to the pool's images
    pixels, place = pool_pixels(preset, method), torch.device(device or default_device())
    settings = config_hash(preset.analysis, analysed_clustering(preset), pixels.identity, _stamp(path))
    card = run_card("metadata", preset, method, seed, [pixels], place, settings=settings, rooms=METADATA_ROOMS)
    target = preset_folder(preset) / "records" / "metadata" / f"{method}-s{seed}.json"
    if is_current(target, card):
        return
    images, clusters = final_clusters(preset, method, seed, device=device)
    start = time.monotonic()
    with clustered_photos(preset, path, images, clusters) as (photos, without):
        found = {field: photos.agreement(field, seed) for field in FIELDS}
        records = [record for field, of in found.items() if of for record in agreement_records(field, of)]
        write_cluster_pages(preset, method, seed, images, clusters, photos)
        notes = {**card.notes, "photographs": len(photos), **without}
    write_records(target, replace(card, seconds=round(time.monotonic() - start, 1), notes=notes), records)


@contextmanager
def clustered_photos(
    preset: Preset, path: Path, images: ImageSet, clusters: NDArray[np.int64]
) -> Iterator[tuple[ClusteredPhotos, dict[str, int]]]:
    """The images beside their metadata, in memory or, where that is large, in a table; and what was left out."""
    if is_large(path):
        table = kept_table(preset, path)
        with table_photos(table, images, clusters) as photos:
            yield photos, left_out(table_facts(table))
    else:
        lines = read_metadata(path, max_bad=preset.data.max_bad_metadata)
        yield MatchedPhotos(clusters, match_photos(images, lines)), left_out(lines)


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
    photos: ClusteredPhotos,
) -> None:
    """Save clusters with a dominant hashtag, camera or place: nine images of each at random, and who took them."""
    rng = np.random.default_rng(seed)
    shown = []
    for field in ("hashtag", "device", "gps"):
        for one in photos.dominated(field, smallest=PICTURED_IMAGES, count=PICTURED_CLUSTERS):
            rows = rng.permutation(np.flatnonzero(clusters == one.cluster))[:PICTURED_IMAGES].tolist()
            shown.append(
                {
                    "field": field,
                    "value": one.value,
                    "cluster": one.cluster,
                    "size": one.size,
                    "share": one.share,
                    "images": [images.ids[row] for row in rows],
                    "credits": photos.nicknames(rows),
                }
            )
    path = preset_folder(preset) / "pictures" / f"metadata-{method}-s{seed}.json"
    write_atomically(path, json.dumps({"clusters": shown}).encode())


def _stamp(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of the metadata's files: they may be too large to be read for a hash."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, changed_at(file)) for file in files]
