"""Runs at a glance: a line for each, or two of them side by side, in text or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dclib.data.folders import in_one_line, named_path
from dclib.data.images import name_some, printable
from dclib.explore.found import Run, find_runs, read_run
from dclib.presets import runs_folder

NONE = "-"
WIDEST = 40  # characters of a name in a table


def runs_below(folder: str | Path = "") -> list[Run]:
    """Those below a folder, by default where runs are kept. Raises ValueError where there is no such folder."""
    root = named_path(folder) if folder else runs_folder()
    if not root.is_dir():
        raise ValueError(f"need a folder with runs below it; {root} is {'a file' if root.exists() else 'not there'}")
    return list(find_runs(root))


def listing(folder: str | Path = "", as_json: bool = False) -> str:
    """A line for each run below a folder, the one that changed last first."""
    runs = runs_below(folder)
    if as_json:
        return json.dumps([facts(run) for run in runs], indent=1)
    if not runs:
        return f"no runs below {folder or runs_folder()}"
    now = time.time()
    rows = [["run", "method", "seed", "state", "age", "epochs", "health", "NMI", "best layer"]]
    for run in runs:
        epochs = f"{run.epoch}/{run.epochs}" if run.epochs else str(run.epoch)
        nmi = NONE if run.nmi is None else f"{run.nmi:.2f}"
        layer = NONE if run.best_layer is None else f"conv{run.best_layer}, {run.layers[run.best_layer]:.1f} %"
        seed = NONE if run.seed < 0 else str(run.seed)
        method = run.method if run.exploration is None else "exploration"
        rows.append([run.name, method, seed, run.state, age(now - run.changed), epochs, run.health or NONE, nmi, layer])
    return _table(rows)


def facts(run: Run) -> dict[str, Any]:
    """What is known of a run, as JSON has it."""
    return {
        "run": run.name,
        "folder": str(run.folder),
        "preset": run.preset,
        "method": run.method,
        "seed": None if run.seed < 0 else run.seed,
        "exploration": run.exploration is not None,
        "state": run.state,
        "changed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.changed)),
        "epoch": run.epoch,
        "epochs": run.epochs or None,
        "images": run.n_images or None,
        "health": run.health,
        "nmi_previous": run.nmi,
        "best_layer": run.best_layer,
        "layers": dict(run.layers),
        "fault": run.fault,
        "history": [dict(row) for row in run.history],
    }


def compare(one: str, other: str, folder: str | Path = "", as_json: bool = False) -> str:
    """Settings in which two runs differ, their histories epoch by epoch, and their best layers."""
    runs = [named(name, folder) for name in (one, other)]
    settings = [_flat(run.settings) for run in runs]
    keys = sorted(settings[0].keys() | settings[1].keys())
    differ = [
        [key, *(str(s.get(key, NONE)) for s in settings)]
        for key in keys
        if settings[0].get(key) != settings[1].get(key)
    ]
    if as_json:
        return json.dumps({"runs": [facts(run) for run in runs], "differ": differ}, indent=1)
    names = [run.name for run in runs]
    whole = all(run.card or run.summary for run in runs)
    told = "settings that differ" if whole else "settings of the network that differ"
    parts = [_table([[told, *names], *differ]) if differ else f"no {told}"]
    parts.append(_table(_histories(runs)))
    layers = [NONE if r.best_layer is None else f"conv{r.best_layer}, {r.layers[r.best_layer]:.1f} %" for r in runs]
    states = [f"{run.state}, {run.health or 'no epoch yet'}" for run in runs]
    parts.append(_table([["", *names], ["state", *states], ["best layer", *layers]]))
    return "\n\n".join(parts)


def named(name: str, folder: str | Path = "") -> Run:
    """The run in a folder, or the latest whose name begins so. Raises ValueError that lists some there are."""
    if name and named_path(name).is_dir():
        run = read_run(named_path(name))
        if run.exploration is None and not run.saved and not run.fault:
            raise ValueError(f"need the folder of a run or of an exploration to compare; {name} holds neither")
        return run
    if not name:
        raise ValueError("need the names or folders of two runs to compare; one of them is empty")
    runs = runs_below(folder)
    found = _called(name, runs)
    found = found or [run for run in runs if run.name.startswith(name) or run.folder.name.startswith(name)]
    if not found:
        some = ", ".join(run.name for run in runs[:5]) or "none"
        raise ValueError(f"no run {name!r} below {folder or runs_folder()}; there are {some}")
    return found[0]


def run_place(given: str) -> Path:
    """The path that is given, where something is, or else the folder of the run that is called so.

    Raises:
        ValueError: no run or several are called so; the message names what is near.
    """
    path = named_path(given)
    if path.exists():
        return path
    runs = runs_below() if runs_folder().is_dir() else []
    found = [run.exploration or run.folder for run in _called(given, runs)]
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} runs are called {given!r}: {_some([str(place) for place in found])}; give the folder of one"
        )
    if not found:
        names = [run.name for run in runs]
        near = get_close_matches(given, names)
        raise ValueError(
            f"need the path of a run or a name that python -m dclib runs lists; {given!r} is neither; "
            f"{'near it:' if near else 'there are'} {_some(near or names)}"
        )
    return found[0]


def _called(name: str, runs: Sequence[Run]) -> list[Run]:
    """Those that are called so, by a whole name or by one as the list shows it."""
    whole = [run for run in runs if name in (run.name, _cell(run.name))]
    return whole or [run for run in runs if name in (run.folder.name, f"{run.method}-s{run.seed}")]


def _some(names: Sequence[str]) -> str:
    return in_one_line(name_some([printable(name) for name in names])) or "none"


def age(seconds: float) -> str:
    """How long ago, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _histories(runs: Sequence[Run]) -> list[list[str]]:
    """Loss, accuracies and agreement of clusterings, epoch by epoch, a column for each run."""
    by_epoch: list[dict[int, dict[str, float]]] = []
    for run in runs:
        epochs: dict[int, dict[str, float]] = {}
        for row in run.history:
            epochs.setdefault(int(row.get("epoch", 0)), {}).update(row)
        by_epoch.append(epochs)
    columns = ["loss"]
    rows = [row for epochs in by_epoch for row in epochs.values()]
    columns += sorted({key for row in rows for key in row if key.endswith("_accuracy")})
    columns += [key for key in ("nmi_previous", "nmi_labels") if any(key in row for row in rows)]
    table = [["epoch", *(f"{column.replace('_accuracy', ' %')} {side}" for column in columns for side in "AB")]]
    for epoch in sorted({epoch for epochs in by_epoch for epoch in epochs}):
        values = [epochs.get(epoch, {}).get(column) for column in columns for epochs in by_epoch]
        table.append([str(epoch), *(NONE if value is None else f"{value:.3f}" for value in values)])
    return table


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """``section.key`` to value, of settings in settings."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width, two blanks apart; what could move a terminal's cursor is escaped."""
    shown = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown)
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text as a table shows it."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= WIDEST else f"...{shown[3 - WIDEST :]}"
