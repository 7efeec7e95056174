"""Put a run among the published results: all that its pages show, and, where README asks for it, a table. No torch.

That is its records, the small arrays and names of images behind its pictures, the cluster of every image of its pool,
for some runs at every clustering, and one figure.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from dclib.config import Preset
from dclib.counted import count_of, counted
from dclib.presets import project_root, runs_folder
from dclib.press.network import FOLDER as NETWORKS
from dclib.records import Record, read_records, replacing, replacing_folder, select, write_atomically
from dclib.report.counts import variants_in
from dclib.report.figures import plot_accuracy_against_depth, plot_published_accuracy
from dclib.report.forming import FORMED, published_name
from dclib.report.provenance import find_mismatches, load_records
from dclib.report.series import accuracy_by_layer, final_values, history, order_methods, spread, title_of
from dclib.train.forming import formed_by, keep_together

SHOWN_LAYERS = (5, 11, 12, 13)  # one early layer, and the last three, where the methods differ
FIGURE = "accuracy.png"
MADE = ("records", "pictures", FIGURE)  # what is published of a run; a protocol or a ladder beside it stays
OF_IMAGES = "first-layer-"  # begins the name of what can be seen through a network: a picture, if a strange one


def publish(preset: Preset) -> Path:
    """Copy what a preset's pages show to ``results/<preset>``, draw their figure, and renew README's table of them.

    What else is in that folder, such as a protocol, stays as it is.

    Raises:
        ValueError: nothing was measured, or the records were not all made alike.
        OSError: they cannot be written; what was published before is untouched.
    """
    preset = counted(preset, variants_in(runs_folder() / preset.name / "records"))
    records = load_records(preset)
    if not select(records, "top1"):
        raise ValueError(f"nothing to publish: preset {preset.name!r} has no probe records; run it first")
    if mismatches := find_mismatches(records):
        raise ValueError(f"cannot publish records that were not made alike: {' '.join(mismatches)}")
    folder = project_root() / "results" / preset.name
    readme = project_root() / "README.md"
    text = readme.read_text(encoding="utf-8")
    # the table is written first and put in its place last: it never tells of records that are not there
    with replacing(readme) as table, replacing_folder(folder) as new:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in MADE:
                (shutil.copytree if path.is_dir() else shutil.copyfile)(path, new / path.name)
        for path in record_files(preset):
            write_atomically(new / "records" / path.parent.name / path.name, path.read_bytes())
        for path in picture_files(preset):
            write_atomically(new / "pictures" / path.name, path.read_bytes())
        publish_formed(preset, folder, new)
        if (networks := runs_folder() / preset.name / NETWORKS).is_dir():
            shutil.copytree(networks, new / NETWORKS, dirs_exist_ok=True)
        draw(records).savefig(new / FIGURE, dpi=120)
        table.write(renew_block(text, preset.name, read_records(new / "records")).encode())
        table.flush()
    return folder


def record_files(preset: Preset) -> list[Path]:
    """The files that hold a preset's records, of the methods and seeds it has now."""
    folder = runs_folder() / preset.name / "records"
    known = {(c.stage, c.method, c.seed, c.config_hash) for c in (r.card for r in load_records(preset)) if c}

    def belongs(path: Path) -> bool:
        card = json.loads(path.read_text(encoding="utf-8"))["card"]
        return (card["stage"], card["method"], card["seed"], card["config_hash"]) in known

    return [path for path in sorted(folder.glob("*/*.json")) if belongs(path)]


def picture_files(preset: Preset) -> list[Path]:
    """What the pictures of a preset's pages are made of, and the clusters of its pool, of its methods and seeds.

    Of photographs their names, never what they show: they are other people's.
    """
    known = tuple(f"-{method}-s{seed}" for method in preset.methods for seed in preset.seeds)
    folder = runs_folder() / preset.name / "pictures"
    found = [path for path in sorted(folder.glob("*.*")) if path.stem.endswith(known)]
    return [path for path in found if preset.data.is_drawn or not path.name.startswith(OF_IMAGES)]


def publish_formed(preset: Preset, before: Path, new: Path) -> None:
    """Put the clusterings of some runs among the pictures: those that the runs have kept.

    Of a run that kept none, those that were published ``before``, if its records are still the same file.
    """
    for method in (method for method in FORMED if method in preset.methods):
        seed = preset.seeds[0]
        picture, record = f"pictures/{published_name(method, seed)}", f"records/pretrain/{method}-s{seed}.json"
        if formed := formed_by(runs_folder() / preset.name / "runs", method, seed):
            keep_together(new / picture, formed)
        elif (before / picture).is_file() and _same(before / record, new / record):
            write_atomically(new / picture, (before / picture).read_bytes())


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def draw(records: Sequence[Record]) -> Figure:
    """Accuracy against depth on objects, ours and the paper's, as the main paper's Figure 2."""
    figure = Figure(figsize=(10, 4.6), facecolor="white", layout="constrained")
    ours, paper = figure.subplots(1, 2)
    plot_accuracy_against_depth(records, "objects", ax=ours)
    plot_published_accuracy("objects", ax=paper)
    return figure


def renew_block(text: str, preset: str, records: Sequence[Record]) -> str:
    """``text`` with the table between its markers ``<!-- results: PRESET -->`` and ``<!-- end -->`` made anew."""
    pattern = re.compile(rf"(<!-- results: {re.escape(preset)} -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{results_table(records)}{found[2]}", text)


def results_table(records: Sequence[Record]) -> str:
    """The rows in Markdown, and what they are of."""
    header, *rows = results_rows(records)
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows)]
    probes = [record for record in select(records, "top1", dataset="objects", layer=13) if record.card]
    seeds = len({record.card.seed for record in probes if record.card})
    n_test = f"{probes[0].n:,} test images"
    said = f"Top-1 accuracy of linear probes on {n_test}, %, mean ± standard deviation over {seeds} seeds."
    return "\n".join([*lines, "", said, ""])


def results_rows(records: Sequence[Record]) -> list[list[str]]:
    """Accuracy of some layers and agreement of clusters with classes, mean and spread over seeds, below their names."""
    curves = accuracy_by_layer(records, "objects")
    rows = [["network", *(f"conv{layer}" for layer in SHOWN_LAYERS), "cluster NMI, first to last", "final NMI"]]
    for method in (method for method in order_methods(curves) if not count_of(method)):
        layers = [_mean([curve[layer - 1] for curve in curves[method].values()], 1) for layer in SHOWN_LAYERS]
        rises = history(records, "nmi_labels", method, "assignment").values()
        rise = " to ".join(_mean([line[1][end] for line in rises], 2) for end in (0, -1)) if rises else ""
        final = _mean(list(final_values(records, "final_nmi_labels", method).values()), 2)
        rows.append([title_of(method), *layers, rise, final])
    return rows


def _mean(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    middle = sum(values) / len(values)
    return f"{middle:.{digits}f} ± {spread(values):.{digits}f}" if len(values) > 1 else f"{middle:.{digits}f}"
