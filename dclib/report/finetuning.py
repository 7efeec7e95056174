"""The page of Table 2: fine-tuning from three starts by two recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dclib.paper import TABLE2, TABLE2_COLUMNS, TABLE2_METHODS, TABLE2_RECIPES
from dclib.records import Record, select
from dclib.report.display import Fragment, say
from dclib.report.figures import PANEL, finish, key_below, look_of, new_axes, plot_seeds
from dclib.report.finder import Finder
from dclib.report.margins import lead
from dclib.report.provenance import named
from dclib.report.published import panels, show_both
from dclib.report.series import Line, history, mean_line, methods_in, over_seeds, plural, title_of
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table, value_cell

RECIPE_NAMES = dict(zip(TABLE2_RECIPES, TABLE2_COLUMNS, strict=True))
MEASURED = ("finetuned_top1", "share_top1")  # with the share that is judged, and with the others
NO_SHARES = "All runs of this page have all the labels: this preset asks for no shares of them (`finetune.shares`)."
EMPTY = "Nothing was fine-tuned here: this preset has no labelled objects, or the stage has not run yet."


def start_name(method: str) -> str:
    """How a start is called on the page; from a random network is from scratch."""
    return "from scratch" if method == "random" else f"from {title_of(method)}"


def finetuning_table(records: Sequence[Record]) -> Table:
    """Table 2 of the supplement: final accuracy from each start by each recipe, the paper's row under ours."""
    find = Finder(records)
    rows = [Row("Supervised (PyTorch documentation)", _published("Supervised (PyTorch documentation)"), paper=True)]
    published = {method: row for row, method in TABLE2_METHODS.items()}
    methods = dict.fromkeys([*published, *(r.card.method for r in select(records, "finetuned_top1") if r.card)])
    for method in methods:
        ends = [find.last("finetuned_top1", method, recipe=recipe) for recipe in TABLE2_RECIPES]
        rows.append(Row(f"Supervised, {start_name(method)}", tuple(value_cell(end.values()) for end in ends)))
        if method in published:
            rows.append(Row(f"paper: {published[method]}", _published(published[method]), paper=True))
    tested = sorted({r.n for r in select(records, "finetuned_top1")})
    n = f" on {tested[0]:,} test images" if tested else ""
    return Table(
        caption=f"Top-1 accuracy after fine-tuning{_labels(records)}{n}, % (as Table 2 of the supplement)",
        columns=("Start", *TABLE2_COLUMNS),
        groups=(Group("", tuple(rows)),),
        notes=(
            f"Ours: {over_seeds(records)}. Italics: published numbers, ImageNet "
            "at 224 pixels. Schedules keep their shape and are scaled to the preset's epochs (D27, D32, D39).",
        ),
        source=named(records, "finetuned_top1"),
    )


def shares_table(records: Sequence[Record]) -> Table:
    """Final accuracy with every share of the labels, from each start by each recipe; empty without shares."""
    measured = {str(r.keys["share"]): name for name in MEASURED for r in select(records, name) if "share" in r.keys}
    find, rows = Finder(records), []
    for share in sorted(measured, key=lambda share: float(share.split()[0])):
        of = select(records, measured[share], share=share)
        for method in methods_in(of):
            ends = [find.last(measured[share], method, recipe=r, share=share) for r in TABLE2_RECIPES]
            rows.append(Row(f"{share}, {start_name(method)}", tuple(value_cell(end.values()) for end in ends)))
    counts = {
        str(r.card.notes["labels"]): r for n in MEASURED for r in select(records, n) if r.card and "share" in r.keys
    }
    ours = sorted(counts, key=lambda label: float(label.split("(")[1].split()[0]))
    passes = ", ".join(f"{label}: {counts[label].card.notes['passes']}" for label in ours)  # type: ignore[union-attr]
    return Table(
        caption="Top-1 accuracy after fine-tuning on shares of the labels, %",
        columns=("Share and start", *TABLE2_COLUMNS),
        groups=(Group("", tuple(rows), "" if rows else NO_SHARES),),
        notes=(
            f"Ours: {over_seeds(records)}. Everything else on this page, and every verdict on the paper's claims, is "
            f"about the middle share{_labels(records)} alone. A seed's images are the same from every start, even over "
            "the classes, and those of a smaller share are among those of a larger one. So that few images are trained "
            f"on for as many steps, an epoch passes over them several times. Labelled images and passes: {passes}.",
        )
        if rows
        else (),
        source=named(records, *MEASURED) if rows else (),
    )


def _labels(records: Sequence[Record]) -> str:
    """Which share Table 2 and the curves are about: `` (10 % of the labels)``; empty without shares."""
    there = {str(r.keys["share"]): None for r in select(records, "finetuned_top1") if "share" in r.keys}
    return f" ({', '.join(there)} of the labels)" if there else ""


def lead_table(records: Sequence[Record]) -> Table:
    """How far each pre-trained start ends above scratch, by each recipe, and whether that lead shrinks."""
    find = Finder(records)
    rows = []
    for name, method in ((row, m) for row, m in TABLE2_METHODS.items() if m != "random"):
        leads = [
            lead(find.last("finetuned_top1", method, recipe=r), find.last("finetuned_top1", "random", recipe=r))
            for r in TABLE2_RECIPES
        ]
        ours = (*leads, lead(leads[1], leads[0]))
        rows.append(Row(title_of(method), tuple(value_cell((v or {}).values()) for v in ours)))
        paper = [a - b for a, b in zip(_numbers(name), _numbers("Supervised (our code)"), strict=True)]
        cells = (*(Cell(f"{value:.1f}") for value in paper), Cell(f"{paper[1] - paper[0]:z.1f}"))
        rows.append(Row("paper", cells, paper=True))
    return Table(
        caption=f"Lead over training from scratch{_labels(records)}, points",
        columns=("Start", *TABLE2_COLUMNS, "change"),
        groups=(Group("", tuple(rows)),),
        notes=(
            f"Leads are taken seed by seed; {over_seeds(records)}. The supplement calls the first column before "
            "convergence and the second at it (D27, D32, D39).",
        ),
        source=named(records, "finetuned_top1"),
    )


def rates_in_words(here: Mapping[str, float], paper: Mapping[str, float]) -> Fragment:
    """What the learning rates of each recipe add up to, in epochs at the full rate, here and in the paper."""

    def listed(of: Mapping[str, float]) -> str:
        return ", ".join(f"{RECIPE_NAMES[recipe]} {epochs:.1f}" for recipe, epochs in of.items())

    return say(f"Learning rates added up, in epochs at the full rate: {listed(here)}; in the paper {listed(paper)}.")


def accuracy_per_epoch(records: Sequence[Record], published: Sequence[Record] = ()) -> Fragment:
    """Test accuracy after each epoch, a panel for each recipe."""
    if not select(records, "finetuned_top1"):
        return say(EMPTY)
    caption = (
        f"Test accuracy after every epoch of fine-tuning{_labels(records)}; of several seeds a thin line each and "
        "their mean. Look for how early a start leads, and how much of the lead is left where the curves are flat "
        "(D27, D32, D39)."
    )
    drawings = _panels(plot_accuracy, describe_accuracy, records, published)
    return show_both(drawings, caption, records, published, "finetuned_top1")


def lead_per_epoch(records: Sequence[Record], published: Sequence[Record] = ()) -> Fragment:
    """The lead over scratch after each epoch, a panel for each recipe."""
    if not select(records, "finetuned_top1", method="random"):
        return say("Nothing was trained from scratch here, so there is no lead to draw.")
    caption = (
        f"Lead over training from scratch after every epoch{_labels(records)}, in points, seed by seed. The "
        "supplement's remark is about the right ends: 1.0 point with the first recipe, 0.8 with the second "
        "(D27, D32, D39)."
    )
    drawings = _panels(plot_lead, describe_lead, records, published)
    return show_both(drawings, caption, records, published, "finetuned_top1")


def _panels(
    plot: Callable[..., Axes], describe: Callable[..., str], records: Sequence[Record], published: Sequence[Record]
) -> list[tuple[Axes, str]]:
    """A panel for each recipe, and beside it that of the published seeds."""
    drawn = [
        panels(partial(plot, recipe=recipe), partial(describe, recipe=recipe), records, published)
        for recipe in TABLE2_RECIPES
    ]
    return [panel for pair in drawn for panel in pair]


def plot_accuracy(records: Sequence[Record], recipe: str) -> Axes:
    """Accuracy against epochs for every start."""
    ax = new_axes(*PANEL)
    for method in _starts(records):
        plot_seeds(ax, _lines(records, method, recipe), look_of(method), start_name(method))
    ax.set(xlabel="epoch", ylabel="top-1 accuracy, %", title=RECIPE_NAMES[recipe])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    key_below(ax)
    return finish(ax)


def describe_accuracy(records: Sequence[Record], recipe: str) -> str:
    """The curves in words: where each ends."""
    return f"Accuracy by {RECIPE_NAMES[recipe]}: " + "; ".join(
        f"{start_name(method)} {_ends(_lines(records, method, recipe), '%')}" for method in _starts(records)
    )


def plot_lead(records: Sequence[Record], recipe: str) -> Axes:
    """Lead over scratch against epochs for every other start."""
    ax = new_axes(*PANEL)
    for method in _starts(records):
        if method != "random":
            plot_seeds(ax, _lead_lines(records, method, recipe), look_of(method), title_of(method))
    ax.axhline(0, color="black", linewidth=1)
    ax.set(xlabel="epoch", ylabel="lead over scratch, points", title=RECIPE_NAMES[recipe])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    key_below(ax)
    return finish(ax)


def describe_lead(records: Sequence[Record], recipe: str) -> str:
    """The leads in words: first and last."""
    return f"Lead over scratch by {RECIPE_NAMES[recipe]}: " + "; ".join(
        f"{title_of(method)} {_ends(_lead_lines(records, method, recipe), 'points')}"
        for method in _starts(records)
        if method != "random"
    )


def _starts(records: Sequence[Record]) -> list[str]:
    there = {r.card.method for r in select(records, "finetuned_top1") if r.card}
    order = dict.fromkeys([*reversed(list(TABLE2_METHODS.values())), *sorted(there)])
    return [method for method in order if method in there]


def _lines(records: Sequence[Record], method: str, recipe: str) -> dict[int, Line]:
    return history(select(records, "finetuned_top1", recipe=recipe), "finetuned_top1", method, "epoch")


def _lead_lines(records: Sequence[Record], method: str, recipe: str) -> dict[int, Line]:
    ours, scratch = _lines(records, method, recipe), _lines(records, "random", recipe)
    shared = sorted(ours.keys() & scratch.keys())
    return {
        seed: (ours[seed][0], tuple(a - b for a, b in zip(ours[seed][1], scratch[seed][1], strict=True)))
        for seed in shared
    }


def _ends(lines: dict[int, Line], unit: str) -> str:
    steps, means, _ = mean_line(lines)
    if not steps:
        return "not measured"
    over = f"mean of {plural(len(lines), 'seed')}"
    return f"{means[0]:.1f} {unit} after epoch {steps[0]} and {means[-1]:.1f} {unit} after {steps[-1]}, {over}"


def _numbers(row: str) -> list[float]:
    return [value for value in TABLE2[row] if value is not None]


def _published(row: str) -> tuple[Cell, ...]:
    return tuple(Cell(NO_VALUE if value is None else f"{value:.1f}") for value in TABLE2[row])
