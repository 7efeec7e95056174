"""What the stage notebooks show: each exhibit is one figure with its caption and its words, or says why it is empty.

Notebooks stay thin because drawing, describing and the case of a missing half are joined here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dclib.config import DataConfig, Preset
from dclib.data.folders import open_folder
from dclib.data.images import ImageSet
from dclib.data.yfcc_metadata import PhotoMetadata, photos_by_image, read_metadata, table_beside
from dclib.paper import Half
from dclib.pocket.outline import GroupDrawer
from dclib.presets import edition, shown_folder
from dclib.records import Record, select
from dclib.report import figures, pictures
from dclib.report.display import Fragment, say, show, show_photographs
from dclib.report.names import DRAWN_NOTICE, folder_name, names_in
from dclib.report.provenance import under_pictures
from dclib.report.published import panels, show_both
from dclib.report.seen import shown
from dclib.report.series import final_values, over_seeds, title_of
from dclib.report.tables import missing_half_sentence
from dclib.train.absent import AbsentSet, absent_set, lacks_images, present
from dclib.train.runnable import look_ahead

METADATA_LINES = 20_000  # read from the top of the table: that of YFCC100M has 10^8
N_PHOTOGRAPHS = 12
BESIDE: Mapping[figures.Kind, str] = {
    "before and after": "Methods that are not the paper's, from before it and after, on the same trunk",
    "variants": "Variants of the methods: other colours, other images, two levels of clusters",
}
TWICE = 2.0  # times the smallest class: above it classes are called uneven


# 01: data


def data_notice(preset: Preset, page: str = "") -> Fragment:
    """Which images this page is about, what that means for its numbers, and what they are not enough for on it."""
    if not preset.data.is_drawn:
        notice = say(
            f"Preset {preset.name}. {preset.description} It reads real images by path. Its numbers are those of these "
            "images and of this preset's budget, and no reproduction of the paper's."
        )
        outlook = look_ahead(preset) if page and edition() is None else None
        if outlook and page == "data":
            return sum(map(say, outlook.lines), start=notice)
        if outlook and page in outlook.left_out:
            return notice + say(f"There is nothing to show on this page, for {outlook.left_out[page]}.")
        return notice
    return say(
        f"Preset {preset.name}. {preset.description} {DRAWN_NOTICE} "
        "World and settings were tuned, looking at the labels and at the probes' test set, until the paper's ordering "
        "appeared. Its numbers are a demonstration of the method, not evidence for the paper."
    )


@pictures.pictured
def contact_sheet(
    images: ImageSet | AbsentSet | None,
    what: str,
    data: DataConfig,
    *,
    n_rows: int = 8,
    per_row: int = 8,
    by_class: bool = True,
) -> Fragment:
    """Some images of a set: a row per class, or mixed as they come where it has none or ``by_class`` is false."""
    if images is None:
        return say(f"This preset has no {what}.")
    images = present(images)
    sorted_out = by_class and images.labels is not None
    shown = images if sorted_out else replace(images, labels=None)
    rows = pictures.sample_rows(shown, n_rows=n_rows, per_row=per_row)
    return show(
        pictures.draw_contact_sheet(shown, rows),
        pictures=True,
        alt=pictures.describe_contact_sheet(shown, rows),
        caption=f"{what.capitalize()}{names_in(data).aside}, {'by class' if sorted_out else 'taken at random'}; "
        f"{len(images):,} in all." + pictures.note_unreadable(shown, itertools.chain(*rows.values())),
    )


@pictures.pictured
def photographs(pool: ImageSet | AbsentSet, data: DataConfig) -> Fragment:
    """Images of a pool in YFCC100M's layout with whom, what and which words its metadata name."""
    pool = present(pool)
    table = table_beside(pool)
    if table is None:
        return say("The pool comes without metadata: no users, hashtags or cameras to show.")
    try:
        photos = photos_by_image(pool.ids, read_metadata(table, lines=range(METADATA_LINES)).photos)
    except ValueError as error:
        return say(f"The pool's metadata cannot be used: {error}.")
    described = [number for number, image_id in enumerate(pool.ids) if image_id in photos]
    if not described:
        return say(f"None of the first {METADATA_LINES:,} lines of {table.name} is about a photo of the pool.")
    chosen = np.random.default_rng(0).permutation(described)[:N_PHOTOGRAPHS].tolist()
    cards = [
        (
            pictures.open_to_show(pool, i, draft=256),
            photos[pool.ids[i]].title or "untitled",
            _photo_lines(photos[pool.ids[i]], data),
        )
        for i in chosen
    ]
    kind, caption = "Photograph", "From the pool, with what its metadata says: user, camera, hashtags."
    if data.is_drawn:
        kind = "Drawing"
        caption = "Drawings from the pool, with the metadata invented for them by rules: user, camera, hashtags."
    return show_photographs(cards, kind=kind, caption=caption + pictures.note_unreadable(pool, chosen))


@pictures.pictured
def class_counts(pool: ImageSet | AbsentSet, objects: ImageSet | AbsentSet | None) -> Fragment:
    """The long tail of the pool beside the even classes of the labelled objects."""
    named = {"pool": present(pool), "labelled objects": None if objects is None else present(objects)}
    sets = {name: images.labels for name, images in named.items() if images is not None and images.labels is not None}
    if not sets:
        return say("No set of this preset has classes to count.")
    return show(
        figures.plot_class_counts(sets),
        alt=figures.describe_class_counts(sets),
        caption="Images per class (the supplement's Figure 1 does this for hashtags of YFCC100M and classes of "
        "ImageNet). Classes of the pool are known for display only; pre-training never reads them.",
    )


def other_sets(root: Path, data: DataConfig) -> Fragment:
    """A few pictures of the multi-object and landmark sets below ``root``, where there are any."""
    found = [(kind, folder) for kind, pattern in _LAYOUTS for folder in _folders_named(root, pattern)]
    if not found and edition() is not None and lacks_images(data):
        return say(absent_set(data, "pool").sentence)
    if not found:
        return say("No multi-object or landmark set comes with these images.")
    sheets = [_unlabelled_sheet(kind, folder, data) for kind, folder in found]
    return sum(sheets[1:], start=sheets[0])


GROUPS = "scenes with several objects"
_LAYOUTS = ((GROUPS, "JPEGImages"), ("landmarks", "jpg"))


def _folders_named(root: Path, name: str) -> list[Path]:
    """Folders of that name at most two levels below ``root``; deeper, a large collection takes long to walk."""
    return sorted(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}{name}") if path.is_dir())


def _unlabelled_sheet(kind: str, folder: Path, data: DataConfig) -> Fragment:
    name = folder_name(folder.parent.name, names_in(data))
    try:
        images = open_folder(folder, whole=True)
    except ValueError as error:
        return say(f"{folder.parent.name}: {error}.")
    in_outline = data.is_drawn and edition() is not None and kind == GROUPS
    reader = GroupDrawer(folder, data.pocket_images, data.pocket_seed) if in_outline else images.reader
    plain = ImageSet(name, images.ids, reader)
    rows = pictures.sample_rows(plain, n_rows=2, per_row=6)
    return show(
        pictures.draw_contact_sheet(plain, rows),
        pictures=True,
        alt=pictures.describe_contact_sheet(plain, rows),
        caption=f"{kind.capitalize()}: {name}, {len(plain):,} images."
        + pictures.note_unreadable(plain, itertools.chain(*rows.values())),
    )


def credit_of(pool: ImageSet, rows: Sequence[int], data: DataConfig) -> str:
    """A sentence on who took some images of a pool, by its metadata; empty where that is not known."""
    if data.is_drawn:
        return "These images are drawings."
    table = table_beside(pool)
    try:
        lines = read_metadata(table, lines=range(METADATA_LINES)).photos if table else ()
    except ValueError:
        lines = ()
    photos = photos_by_image(pool.ids, lines)
    people = [photos[pool.ids[row]].user_nickname for row in rows if pool.ids[row] in photos]
    return f"Photographs by {' and '.join(dict.fromkeys(people))}." if people else ""


def _photo_lines(photo: PhotoMetadata, data: DataConfig) -> list[str]:
    by = "invented user" if data.is_drawn else "by"
    tags = " ".join(f"#{tag}" for tag in photo.user_tags)
    return [line for line in (f"{by} {photo.user_nickname}", photo.capture_device, tags) if line]


# 02: pre-training


def training_loss(records: Sequence[Record], method: str, published: Sequence[Record] = ()) -> Fragment:
    """The loss over epochs, against chance."""
    return _drawn(
        figures.plot_training_loss,
        figures.describe_training_loss,
        records,
        method,
        published,
        needs=("loss", "chance_loss"),
        empty=f"{title_of(method)} is not trained: there is no loss to show.",
        caption="Loss over the epochs; of several seeds a thin line each. The dotted line is what a network scores "
        f"that {'gives every class the same probability' if figures.loss_unit(method) else 'finds all as far apart'}. "
        "A step up right after new clusters is normal: the heads start afresh.",
    )


def cluster_agreement(records: Sequence[Record], method: str, published: Sequence[Record] = ()) -> Fragment:
    """Agreement of clusters with classes and with the clusters before."""
    return _drawn(
        figures.plot_cluster_agreement,
        figures.describe_cluster_agreement,
        records,
        method,
        published,
        needs=("nmi_labels", "nmi_previous"),
        empty=f"{title_of(method)} makes no clusters, so there is no agreement to follow.{_tracks(records, method)}",
        caption="Agreement of each clustering with the classes, which training never sees, and with the clustering "
        "before it. Rising solid lines: the clusters come to mean something. Rising dashed lines: they settle.",
    )


def _tracks(records: Sequence[Record], method: str) -> str:
    """What a method that follows patches found before it learned, in a sentence; empty for others."""
    tracks, alone = (final_values(records, name, method).values() for name in ("tracks", "without_neighbour"))
    if not tracks or not alone:
        return ""
    return (
        f" It followed {mean(tracks):,.0f} patches through clips before it learned; {mean(alone):.0f} % of them have "
        "no other like them."
    )


def cluster_sizes(records: Sequence[Record], method: str, published: Sequence[Record] = ()) -> Fragment:
    """Smallest, median and largest cluster over the clusterings."""
    return _drawn(
        figures.plot_cluster_sizes,
        figures.describe_cluster_sizes,
        records,
        method,
        published,
        needs=("median_cluster", "smallest_cluster", "largest_cluster"),
        empty=f"{title_of(method)} makes no clusters, so there are no sizes to show.",
        caption=f"Sizes of the clusters, {over_seeds(records, spread=False)}; the band reaches from the smallest to "
        "the largest. One cluster that swallows the set, or many that starve, would show here first.",
    )


@pictures.pictured
def cluster_mosaics(preset: Preset, method: str, images: ImageSet | AbsentSet) -> Fragment:
    """Pictures of some clusters of the first seed that has them."""
    folder = shown_folder(preset.name) / "pictures"
    found = [(seed, folder / f"clusters-{method}-s{seed}.json") for seed in preset.seeds]
    for seed, path in found:
        if path.is_file():
            clusters: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["clusters"]
            if clusters:
                images = present(images)
                return show(
                    pictures.draw_cluster_mosaics(images, clusters),
                    pictures=True,
                    alt=pictures.describe_cluster_mosaics(images, clusters),
                    caption=f"Nine images of each of some clusters at the last clustering, seed {seed}, taken at "
                    "random; above each its number and its size (the main paper shows its own clusters like this)."
                    + pictures.note_on_mosaics(images, clusters),
                    source=under_pictures(preset, "pretrain", method, seed),
                )
    return say(f"{title_of(method)} saved no clusters to look at.")


@pictures.pictured
def network_input(images: ImageSet | AbsentSet, index: int = 0) -> Fragment:
    """One image in its four turns, and its gradients: the first from ``index`` on that can be read."""
    images = present(images)
    index = pictures.readable_near(images, index)
    image = pictures.open_to_show(images, index, draft=256)
    name = images.ids[index].rpartition(".")[0] or images.ids[index]  # said as words, for which no ending is
    turns = show(
        pictures.draw_rotations(image),
        pictures=True,
        alt=pictures.describe_rotations(image, name),
        caption="The four quarter turns q that RotNet and DeeperCluster tell apart."
        + pictures.note_unreadable(images, [index]),
    )
    channels = pictures.sobel_channels(pictures.square_tile(image, pictures.PORTRAIT))
    gradients = show(
        pictures.draw_sobel(image),
        pictures=True,
        alt=f"Image {name} in colour, its gradients in grey: {pictures.describe_gradients(channels)}.",
        caption="The fixed Sobel layer takes colour away and leaves edges (as Figure 4 of the supplement).",
    )
    return turns + gradients


# 03: linear probes


def accuracy_against_depth(records: Sequence[Record], half: Half, published: Sequence[Record] = ()) -> Fragment:
    """The main paper's Figure 2, one half of it: ours, of this run and of the published seeds, and theirs."""
    used, beside = select(records, "top1", dataset=half), select(published, "top1", dataset=half)
    if not used:
        return say(missing_half_sentence(half))
    describe = partial(figures.describe_accuracy_against_depth, half=half)
    ours = panels(partial(figures.plot_accuracy_against_depth, half=half), describe, used, beside)
    paper = (figures.plot_published_accuracy(half), figures.describe_published_accuracy(half))
    caption = (
        f"Accuracy of a linear classifier on each frozen layer, {half}, as Figure 2 of the main paper. Here: "
        f"{over_seeds(used)}. Paper: numbers of Table 1 of the supplement. Other images, other classes, a smaller "
        "network, and an axis of its own: compare orders and shapes, not heights (D15, D16, D24, D25, D26)."
    )
    methods = show_both([*ours, paper], caption, used, beside, "top1", anchor=f"accuracy-{half}")
    for kind in figures.kinds_beside(used, half):
        plot = partial(figures.plot_beside, half=half, kind=kind, limits=ours[0][0].get_ylim())
        caption = (
            f"{BESIDE[kind]}, {half}. The axes are those of the methods above, which are grey here; an arrow down "
            "stands where a curve leaves them."
        )
        drawings = panels(plot, partial(describe, kind=kind), used, beside)
        methods += show_both(drawings, caption, used, beside, "top1")
    return methods


def network_inputs(preset: Preset) -> Fragment:
    """What each network of a preset sees, and what that means beside the paper's RotNet."""
    seen: dict[bool, list[str]] = {True: [], False: []}
    for method, config in preset.methods.items():
        if config.method != "released":  # its file tells
            seen[config.model.stem == "sobel"].append(title_of(method))
    said = [
        f"Networks that see {what}: {'; '.join(networks)}."
        for what, networks in (("image gradients", seen[True]), ("colours", seen[False]))
        if networks
    ]
    return say(
        f"{' '.join(said)} The paper's RotNet of this table is listed without a Sobel filter. Between networks of one "
        "input the order is one of methods; between a network of gradients and one of colours it is one of inputs too."
    )


def _drawn(
    plot: Callable[..., Axes],
    describe: Callable[..., str],
    records: Sequence[Record],
    method: str,
    published: Sequence[Record],
    *,
    needs: Sequence[str],
    empty: str,
    caption: str,
) -> Fragment:
    """A figure of a method's records called ``needs``."""
    used = [record for name in needs for record in select(records, name, method=method)]
    if not used:
        return say(empty)
    beside = [record for name in needs for record in select(published, name, method=method)]
    plot, describe = partial(plot, method=method), partial(describe, method=method)
    return show_both(panels(plot, describe, used, beside), caption, used, beside, *needs)


def classes_to_have_seen(pool: ImageSet | AbsentSet, objects: ImageSet | AbsentSet | None) -> Fragment:
    """How uneven the classes of the pool are, beside those of the labelled objects."""
    sets = {"pool": present(pool), "labelled objects": None if objects is None else present(objects)}
    labels = {name: of.labels for name, of in sets.items() if of is not None and of.labels is not None}
    lines = [_evenness(name, known) for name, of in labels.items() if len(known := of[of >= 0])]
    return shown(lines, "the labels of the images, which pre-training never reads")


def _evenness(name: str, labels: NDArray[np.int64]) -> str:
    counts = np.unique(labels, return_counts=True)[1]
    times = counts.max() / counts.min()
    said = "even" if times < TWICE else "uneven"
    return (
        f"The {len(counts)} classes of the {name} are {said}: the largest has {times:.1f} times the smallest's images."
    )
