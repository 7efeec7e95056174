"""The page of section 5: its recipes, what tells them apart, who needs them, and how a setting is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from html import escape
from itertools import combinations
from statistics import mean

from matplotlib.axes import Axes

from dclib.config import RECIPES, MethodConfig, Preset
from dclib.planner.supplement import PRESETS, needed_networks
from dclib.presets import load_preset
from dclib.records import Record, select
from dclib.report.display import Fragment, say
from dclib.report.figures import LOOKS, SIZE, finish, new_axes
from dclib.report.finder import Finder
from dclib.report.names import names_in
from dclib.report.provenance import named
from dclib.report.published import panels, show_both
from dclib.report.seen import Lines, shown_beside
from dclib.report.series import over_seeds, plural, spread, title_of
from dclib.report.tables import Cell, Group, Row, Table, value_cell

SECTIONS = ("model", "cluster", "train")
STOPPING = ("train.patience", "train.validate_every")
STATED = (
    *("train.epochs", "train.batch_size", "train.lr", "train.decay_from", "train.final_lr", "train.weight_decay"),
    *("model.dropout", "model.stem"),
)  # settings shown where there is no recipe
COLUMNS = (
    ("batch", "train.batch_size"),
    ("learning rate", "train.lr"),
    ("weight decay", "train.weight_decay"),
    ("dropout", "model.dropout"),
    ("input", "model.stem"),
    ("PCA to", "cluster.pca_dim"),
    ("super-clusters", "cluster.n_super"),
    ("clusters in all", "cluster.n_clusters"),
    ("clustering every", "cluster.reassign_every"),
)


def recipe_table() -> Table:
    """The recipes of the supplement as they stand in the code."""
    rows = tuple(Row(name, tuple(Cell(_shown(config, key)) for _, key in COLUMNS)) for name, config in RECIPES.items())
    return Table(
        caption="The recipes of section 5",
        columns=("Recipe", *(title for title, _ in COLUMNS)),
        groups=(Group("", rows),),
        notes=(
            "Made from dclib.config.RECIPES, from which presets start with `recipe: NAME`. SGD with momentum 0.9 and "
            "images of 224 pixels throughout. RotNet clusters nothing; the supplement names a Sobel filter for the "
            "clustering recipes alone. deepercluster_yfcc100m keeps features on disk as float16 (D36); "
            "what deepercluster_yfcc1m is of, Table 3 calls DeepCluster: deepcluster_yfcc1m, the same values without "
            "turns (D38).",
        ),
    )


def needed_table() -> Table:
    """For every row of Tables 1 to 4 the network that it is about, and its settings, by preset and method."""
    presets = {name: load_preset(name) for name in PRESETS}
    needed = needed_networks(list(presets.values()))
    groups = []
    for number in sorted({need.table for need in needed}):
        labels: dict[tuple[str, str, str], list[str]] = {}  # one network may be that of several rows
        for need in (need for need in needed if need.table == number):
            config = presets[need.preset].method(need.method) if need.preset else None
            made = _recipe_of(config) if config else f"not of this paper: its number is copied{_ours(need.method)}"
            label = f"{need.row}, {need.column}" if need.column else need.row
            labels.setdefault((need.preset, need.method, made), []).append(label)
        rows = tuple(
            Row(f"{'; '.join(of)}, paper", (Cell(preset), Cell(method), Cell(made, words=True)))
            for (preset, method, made), of in labels.items()
        )
        groups.append(Group(f"Table {number}", rows))
    return Table(
        caption="The networks that Tables 1 to 4 need, and where they are",
        columns=("Row", "preset", "method", "settings"),
        groups=tuple(groups),
        notes=(
            "Found by going through the tables and the presets. Where the supplement states no settings: supervised "
            "(D40), DeepCluster on ImageNet (D41), Table 4 (D42).",
        ),
    )


def _ours(method: str) -> str:
    return f"; `{method}` of smaller presets stands in its row" if method else ""


def _recipe_of(config: MethodConfig) -> str:
    """The recipe whose values a method has, and what it changes of them but for when it stops."""
    if config.method == "random":
        return "none"
    changes = {name: _changed(config, recipe) for name, recipe in RECIPES.items() if recipe.method == config.method}
    if not changes:
        shown = _flat(config)
        return "; ".join(f"{key}: {shown[key]}" for key in STATED)
    fits = {name: name.endswith("_imagenet") == (config.images == "objects") for name in changes}
    name = min(changes, key=lambda name: (len(changes[name]), not fits[name]))
    return "; ".join([name, *changes[name]])


def _changed(config: MethodConfig, recipe: MethodConfig) -> list[str]:
    return [f"{key}: {value}" for key, value, _ in differences(config, recipe) if key not in STOPPING]


def differences(one: MethodConfig, other: MethodConfig) -> list[tuple[str, str, str]]:
    """Settings in which two methods differ: (setting, value in one, value in the other)."""
    found = [(key, one_value, _flat(other)[key]) for key, one_value in _flat(one).items()]
    return [(key, a, b) for key, a, b in found if a != b]


def recipe_differences() -> Fragment:
    """A list that opens, one entry for any two recipes, with the settings in which they differ."""
    parts, lines = [], []
    for one, other in combinations(RECIPES, 2):
        rows = differences(RECIPES[one], RECIPES[other])
        summary = f"{one} and {other}: {plural(len(rows), 'difference')}"
        cells = "".join(
            f"<tr><th scope='row'>{escape(key)}</th><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for key, a, b in rows
        )
        head = f"<tr><th>setting</th><th>{escape(one)}</th><th>{escape(other)}</th></tr>"
        table = f"<div class='dclib-table'><table>{head}{cells}</table></div>" if rows else "<p>Nothing.</p>"
        parts.append(f"<details><summary>{escape(summary)}</summary>{table}</details>")
        lines.append(f"- {summary}: " + "; ".join(f"{key}: {a} / {b}" for key, a, b in rows))
    return Fragment("".join(parts), "\n".join(lines))


def preset_against_recipe(preset: Preset, method: str, recipe: str) -> Table:
    """What a preset changes of a recipe, setting by setting."""
    if method not in preset.methods:
        return Table(f"{preset.name} has no method {method}", ("", ""), (Group("", ()),))
    rows = differences(preset.methods[method], RECIPES[recipe])
    return Table(
        caption=f"{title_of(method)} of preset {preset.name} against the recipe {recipe}",
        columns=("Setting", f"preset {preset.name}", recipe),
        groups=(Group("", tuple(Row(key, (Cell(a), Cell(b))) for key, a, b in rows)),),
    )


def choice_table(preset: Preset, records: Sequence[Record]) -> Table:
    """The score of every value that was tried, and which one is best."""
    tried = _tried(records)
    best = max(tried, key=lambda v: sum(tried[v]) / len(tried[v]), default=None)
    rows = tuple(
        Row(f"{value:g}", (value_cell(scores), Cell("best" if value == best else "")))
        for value, scores in sorted(tried.items())
    )
    n = sorted({r.n for r in select(records, "choice_map")})
    return Table(
        caption=f"{preset.choice.key} of {title_of(preset.choice.method) or 'no method'}, by "
        f"{names_in(preset.data).the('VOC2007')}, train to val, FC68, %",
        columns=(preset.choice.key, "mean average precision", ""),
        groups=(Group("", rows, "" if rows else CHOICE_EMPTY),),
        notes=(f"{n[0]:,} validation images; the test split is not looked at (D30).",) if n else (),
        source=named(records, "choice_map"),
    )


CHOICE_EMPTY = "Nothing was chosen here: the preset has no `choice` section, or no VOC2007 set."


def choice_figure(preset: Preset, records: Sequence[Record], published: Sequence[Record] = ()) -> Fragment:
    """The score against the value, on a logarithmic axis."""
    if not _tried(records):
        return say(CHOICE_EMPTY)
    caption = (
        f"{title_of(preset.choice.method)}, trained for {plural(preset.choice.epochs, 'epoch')} with each "
        f"value and scored on {names_in(preset.data).the('VOC2007')}, train to val, with frozen convolutions. Look "
        "for a maximum inside the range: at an end of it the range was too narrow. "
        f"Scores: {over_seeds(records)} (D30)."
    )
    drawings = panels(partial(plot_choice, preset), partial(describe_choice, preset), records, published)
    return show_both(drawings, caption, records, published, "choice_map")


def describe_choice(preset: Preset, records: Sequence[Record]) -> str:
    """The scores in words."""
    words = "; ".join(f"{value:g}: {sum(s) / len(s):.1f} %" for value, s in sorted(_tried(records).items()))
    return f"Validation score of {title_of(preset.choice.method)} for {preset.choice.key} = {words}."


def plot_choice(preset: Preset, records: Sequence[Record]) -> Axes:
    """Mean score, and spread where there are several seeds, against the value tried."""
    ax = new_axes()
    key, tried = preset.choice.key, _tried(records)
    values = sorted(tried)
    means = [sum(tried[v]) / len(tried[v]) for v in values]
    look = LOOKS["deepercluster"]
    ax.errorbar(values, means, yerr=[spread(tried[v]) for v in values], color=look.color, marker=look.marker, capsize=3)
    if min(values) > 0:
        ax.set_xscale("log")
        ax.set_xticks(values, [f"{v:g}" for v in values])
        ax.minorticks_off()
    ax.set_xlabel(key, fontsize=SIZE)
    ax.set_ylabel("train to val, mAP, %", fontsize=SIZE)
    return finish(ax)


def _tried(records: Sequence[Record]) -> dict[float, list[float]]:
    found: dict[float, list[float]] = {}
    for record in select(records, "choice_map"):
        found.setdefault(float(record.keys["tried"]), []).append(record.value)
    return found


def _shown(config: MethodConfig, key: str) -> str:
    section, name = key.split(".")
    if section == "cluster" and not config.clusters:
        return "none"
    value = getattr(getattr(config, section), name)
    text = f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} epochs" if key == "cluster.reassign_every" else text


def _flat(config: MethodConfig) -> dict[str, str]:
    """Every setting by its dotted name; those of clustering count only where there is any."""
    rows = {"method": config.method, "init": config.init or "random weights", "images": config.images}
    for section in SECTIONS:
        for field in dataclasses.fields(getattr(config, section)):
            shown = config.clusters or section != "cluster"
            value = getattr(getattr(config, section), field.name)
            rows[f"{section}.{field.name}"] = (
                (f"{value:g}" if isinstance(value, float) else str(value)) if shown else "none"
            )
    return rows


def to_have_seen(preset: Preset, records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """Which value scores best, and whether a wider range could hold a better one."""
    own, theirs = (list(_seen(preset, Finder(of))) for of in (records, published))
    return shown_beside(own, records, theirs, published)


def _seen(preset: Preset, seen: Finder) -> Lines:
    tried: dict[float, list[float]] = {}
    for record in select(seen.records, "choice_map"):
        tried.setdefault(float(record.keys["tried"]), []).append(record.value)
    if len(tried) > 1:
        means = {value: mean(scores) for value, scores in sorted(tried.items())}
        best = max(means, key=means.__getitem__)
        inside = min(means) < best < max(means)
        place = (
            "inside what was tried"
            if inside
            else "at an end of what was tried, so that a wider range may hold a better one"
        )
        yield f"{preset.choice.key} = {best:g} scores best ({means[best]:.1f} %), {place}."
        yield f"Between best and worst lie {max(means.values()) - min(means.values()):.1f} points."
