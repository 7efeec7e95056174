"""The cluster pages: what clusters are about, told by hashtags, cameras, places and users."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from dclib.config import DataConfig, Preset
from dclib.data.images import ImageSet
from dclib.presets import shown_folder
from dclib.records import Record, select
from dclib.report.display import Fragment, say, show
from dclib.report.figures import finish, key_below, look_of, new_axes
from dclib.report.finder import Finder
from dclib.report.margins import lead
from dclib.report.names import FIELDS, names_in, names_in_table
from dclib.report.pictures import draw_cluster_mosaics, note_on_mosaics, pictured
from dclib.report.provenance import named, under_pictures
from dclib.report.published import panels, show_both
from dclib.report.series import methods_in, over_seeds, spread, title_of
from dclib.report.tables import Group, Row, Table, value_cell
from dclib.train.absent import AbsentSet, present

EMPTY = "The pool comes without metadata, so there is nothing to compare clusters with."


def agreement_table(records: Sequence[Record], data: DataConfig) -> Table:
    """Agreement of clusters and metadata beside what chance gives, for every network."""
    find, images = Finder(records), names_in_table(data).images
    groups = []
    for field, title in FIELDS.items():
        rows = []
        for method in methods_in(select(records, "metadata_nmi", field=field)):
            cells = []
            for name in ("metadata_nmi", "metadata_purity"):
                for labels in ("real", "shuffled"):
                    cells.append(value_cell(find.values(name, method, field=field, labels=labels).values(), digits=3))
            cells.append(value_cell(find.values("metadata_ami", method, field=field, labels="real").values(), digits=3))
            rows.append(Row(title_of(method), tuple(cells)))
        n = sorted({r.n for r in select(records, "metadata_nmi", field=field)})
        groups.append(Group(f"{title}, {n[0]:,} {images}" if n else title, tuple(rows)))
    empty = not select(records, "metadata_nmi")
    return Table(
        caption="Clusters and metadata",
        columns=("Network", "NMI", "NMI, chance", "purity", "purity, chance", "AMI"),
        groups=(Group("", (), EMPTY),) if empty else tuple(groups),
        notes=()
        if empty
        else (
            f"NMI: normalised mutual information; AMI: the one adjusted for chance; purity: share of {images} whose "
            "value is the commonest of their cluster. Chance: the same values dealt out anew, mean of five times. "
            f"Values: {over_seeds(records)}. The main paper draws such a comparison; the supplement gives no number "
            "(D15, D31).",
        ),
        source=named(records, "metadata_nmi", "metadata_ami", "metadata_purity"),
    )


def agreement_bars(records: Sequence[Record], published: Sequence[Record] = ()) -> Fragment:
    """How far above chance the clusters agree with each field, as bars."""
    used, beside = select(records, "metadata_nmi"), select(published, "metadata_nmi")
    if not used:
        return say(EMPTY)
    caption = (
        "Normalised mutual information of clusters and metadata, above that of the same values dealt out anew; "
        f"bars: {over_seeds(used)}. Zero is chance (D15, D31)."
    )
    return show_both(panels(plot_agreement, describe_agreement, used, beside), caption, used, beside, "metadata_nmi")


def plot_agreement(records: Sequence[Record]) -> Axes:
    """Grouped bars: fields along the axis, a bar for each network."""
    ax = new_axes()
    methods = methods_in(select(records, "metadata_nmi"))
    width = 0.8 / max(1, len(methods))
    for i, method in enumerate(methods):
        for place, field in enumerate(FIELDS):
            values = list(_above_chance(records, method, field).values())
            if values:
                at = place + (i - (len(methods) - 1) / 2) * width
                label = title_of(method) if place == 0 else None
                color = look_of(method).color
                ax.bar(at, sum(values) / len(values), width, yerr=spread(values) or None, color=color, label=label)
    ax.axhline(0, color="black", linewidth=1)
    ax.set_xticks(range(len(FIELDS)), list(FIELDS.values()))
    ax.set_ylabel("NMI above chance")
    key_below(ax)
    return finish(ax)


def describe_agreement(records: Sequence[Record]) -> str:
    """The bars in words."""
    parts = []
    for method in methods_in(select(records, "metadata_nmi")):
        said = []
        for field, title in FIELDS.items():
            values = list(_above_chance(records, method, field).values())
            if values:
                said.append(f"{title} {sum(values) / len(values):+.3f}")
        parts.append(f"{title_of(method)}: {', '.join(said)}")
    return f"NMI of clusters and metadata above chance. {'; '.join(parts)}."


@pictured
def cluster_pages(preset: Preset, method: str, images: ImageSet | AbsentSet, field: str) -> Fragment:
    """Clusters in which one hashtag, camera or place is common, with nine images each and who took them."""
    for seed in preset.seeds:
        path = shown_folder(preset.name) / "pictures" / f"metadata-{method}-s{seed}.json"
        if path.is_file() and method in preset.methods:
            found = json.loads(path.read_text(encoding="utf-8"))["clusters"]
            chosen = [cluster for cluster in found if cluster["field"] == field]
            if chosen:
                shown = _pages(present(images), chosen, method, seed, field) + _credits(chosen, preset.data)
                source = under_pictures(preset, "metadata", method, seed)
                return shown + source if source else shown
    return say(f"There is no cluster of {title_of(method)} with a common {field} to show.")


def _pages(images: ImageSet, clusters: Sequence[Mapping[str, Any]], method: str, seed: int, field: str) -> Fragment:
    words = "; ".join(f"{c['value']}: {100 * c['share']:.0f} % of {c['size']} images" for c in clusters)
    return show(
        draw_cluster_mosaics(images, clusters, columns=len(clusters)),
        pictures=True,
        alt=f"Nine images of each of {len(clusters)} clusters. {words}.",
        caption=f"{title_of(method)}, seed {seed}: clusters in which one of the {FIELDS[field]} is common; nine "
        f"images of each at random, whatever they are. {words}.{note_on_mosaics(images, clusters)}",
    )


def _credits(clusters: Sequence[Mapping[str, Any]], data: DataConfig) -> Fragment:
    """Who took the photographs, cluster by cluster; of drawings nobody did."""
    if names_in(data).drawn:
        return say("These are drawings; their users, cameras, places and hashtags are invented by rules.")
    lines = [
        say(f"Photographers of cluster {c['cluster']} ({c['value']}), left to right, top to bottom: {_names(c)}.")
        for c in clusters
    ]
    return sum(lines[1:], start=lines[0])


def _names(cluster: Mapping[str, Any]) -> str:
    return ", ".join(name or "unknown" for name in cluster["credits"])


def _above_chance(records: Sequence[Record], method: str, field: str) -> Mapping[int, float]:
    find = Finder(records)
    real, chance = (find.values("metadata_nmi", method, field=field, labels=labels) for labels in ("real", "shuffled"))
    return lead(real, chance) or {}
