"""The page of Figure 1: hashtags of the pool and labels of the curated set, by rank."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from dclib.config import DataConfig
from dclib.paper import FIGURE1_COUNTS
from dclib.records import DATA, Record, select
from dclib.report.display import Fragment, say, show
from dclib.report.figures import SIZE, finish, key_below, new_axes
from dclib.report.finder import Finder
from dclib.report.names import names_in_table
from dclib.report.provenance import named, under
from dclib.report.series import plural
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

EMPTY = "The pool comes without metadata, so there are no hashtags to count; give a table with data.metadata."
TAGS, LABELS = "#0173b2", "#d55e00"


def rank_figure(records: Sequence[Record], data: DataConfig) -> Fragment:
    """Images against rank on logarithmic axes, with two example words marked on both curves."""
    if not select(records, "hashtag_images"):
        return say(EMPTY)
    return show(
        plot_ranks(records),
        alt=describe_ranks(records),
        caption=f"{names_in_table(data).images.capitalize()} with each hashtag, and images of each label, from the "
        "most frequent to the rarest, as Figure 1 of the supplement. A straight falling line is a long tail; a flat "
        "one is a collection that somebody balanced. Two words that are both are marked, as the supplement does with "
        f"baseball and guenon (D15). {videos_sentence(records)}".strip(),
        source=under(records, "hashtag_images", "label_images", "example_tag_images", "example_label_images"),
    )


def plot_ranks(records: Sequence[Record]) -> Axes:
    """Rank against count, log-log."""
    ax = new_axes()
    for name, color, marker, label in (
        ("hashtag_images", TAGS, "o", "hashtags of the pool"),
        ("label_images", LABELS, "s", "labels of the curated set"),
    ):
        points = sorted((int(r.keys["rank"]), r.value) for r in select(records, name))
        if points:
            ax.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=3, linewidth=1.5, label=label)
    for place, (record, color) in enumerate(sorted(_examples(records), key=lambda e: (e[1], *e[0].keys.values()))):
        rank = int(record.keys["tag_rank" if record.name == "example_tag_images" else "label_rank"])
        ax.plot(rank, record.value, marker="*", markersize=13, color=color, markeredgecolor="black", linestyle="")
        ax.annotate(
            str(record.keys["word"]),
            (rank, record.value),
            xytext=(0, -8 if place % 2 else 8),  # of two on one curve, which may be neighbours, one stands below
            textcoords="offset points",
            ha="center",
            va="top" if place % 2 else "bottom",
            fontsize=SIZE - 1,
            parse_math=False,  # people write hashtags: a dollar sign is no formula
        )
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="images")
    key_below(ax)
    return finish(ax)


def describe_ranks(records: Sequence[Record]) -> str:
    """The two curves in words."""
    parts = []
    for name, what in (("hashtag_images", "hashtags"), ("label_images", "labels")):
        points = sorted((int(r.keys["rank"]), r.value) for r in select(records, name))
        if points:
            parts.append(f"{points[-1][0]:,} {what} with {points[0][1]:,.0f} down to {points[-1][1]:,.0f} images")
    marked = "; ".join(f"{r.keys['word']} {r.value:,.0f}" for r, color in _examples(records) if color == TAGS)
    return f"Images by rank: {'; '.join(parts)}. Marked hashtags: {marked or 'none'}."


def word_table(records: Sequence[Record]) -> Table:
    """The two example words, ours and the paper's: images of the label, and images with the hashtag."""
    ours = {str(r.keys["word"]): r.value for r in select(records, "example_tag_images")}
    labels = {str(r.keys["word"]): r.value for r in select(records, "example_label_images")}
    rows = [Row(word, (Cell(f"{labels[word]:,.0f}"), Cell(f"{count:,.0f}"))) for word, count in ours.items()]
    rows += [
        Row(f"paper: {word}", (Cell(f"{label:,}"), Cell(f"{tag:,}")), paper=True)
        for word, (label, tag) in sorted(FIGURE1_COUNTS.items(), key=lambda item: -item[1][1])
    ]
    return Table(
        caption="Two words that are a label and a hashtag",
        columns=("Word", "images of the label", "images with the hashtag"),
        groups=(Group("", tuple(rows)),),
        notes=("Ours: of the labels that are hashtags too, the most frequent and the rarest hashtag (D15).",),
        source=named(records, "example_tag_images", "example_label_images"),
    )


def tail_table(records: Sequence[Record], data: DataConfig) -> Table:
    """How uneven the counts are, in three numbers."""
    find = Finder(records)

    def shown(name: str, form: str) -> Cell:
        values = list(find.values(name, DATA).values())
        return Cell(format(values[0], form) if values else NO_VALUE)

    # the curve of a long tail is thinned: its last rank counts the labels, its points do not
    labels = max((int(r.keys["rank"]) for r in select(records, "label_images")), default=0)
    rows = (
        Row(
            "hashtags",
            (shown("hashtag_distinct", ",.0f"), shown("hashtag_gini", ".2f"), shown("hashtag_top_share", ".0f")),
        ),
        Row("labels", (Cell(f"{labels:,}" if labels else NO_VALUE), shown("label_gini", ".2f"), Cell(NO_VALUE))),
    )
    n = sorted({r.n for r in select(records, "hashtag_gini")})
    return Table(
        caption=f"How uneven: {n[0]:,} {names_in_table(data).images}" if n else "How uneven",
        columns=("", "distinct", "Gini coefficient", "% of uses by the top 1 %"),
        groups=(Group("", rows),),
        notes=(
            "Gini coefficient: 0 where all are equally frequent, near 1 where a few have nearly everything. "
            f"{videos_sentence(records)}".strip(),
        ),
        source=named(records, "hashtag_distinct", "hashtag_gini", "hashtag_top_share", "label_gini", "label_images"),
    )


def videos_sentence(records: Sequence[Record]) -> str:
    """How many lines of the metadata are about videos, and so not counted; nothing where the run did not tell."""
    told = {int(r.card.notes["videos"]) for r in select(records, "hashtag_gini") if r.card and "videos" in r.card.notes}
    return f"Videos are not counted: the table has {plural(max(told), 'line')} about them." if told else ""


def _examples(records: Sequence[Record]) -> list[tuple[Record, str]]:
    return [(r, TAGS) for r in select(records, "example_tag_images")] + [
        (r, LABELS) for r in select(records, "example_label_images")
    ]
