"""Whether a network learned what it was asked in pre-training: its last accuracies beside those of a guess."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from dclib.records import Record, select
from dclib.report.provenance import under
from dclib.report.series import plural, spread, title_of
from dclib.report.tables import Cell, Group, Row, Table
from dclib.train.chance import TASKS, at_chance


def task_table(records: Sequence[Record], method: str) -> Table:
    """For each task of a method its accuracy in the last epoch, what a guess gives, and the seeds no better than it."""
    rows = tuple(row for task in TASKS if (row := _row(records, method, task)) is not None)
    return Table(
        caption=f"What {title_of(method)} was asked, last epoch",
        columns=("Task", "right, %", "by a guess, %", "learned?"),
        groups=(
            Group("", rows, "" if rows else f"{title_of(method)} was asked nothing, or has not been trained yet."),
        ),
        notes=(
            "Not learned: right at most 1.2 times as often as a guess. Nothing can be concluded from a comparison with "
            "a network that has not learned its task.",
        )
        if rows
        else (),
        source=under(
            [r for r in records if r.card and r.card.method == method], *(f"{task}_accuracy" for task in TASKS)
        ),
    )


def last_of(records: Sequence[Record], name: str, method: str) -> dict[int, Record]:
    """Seed -> the record of its last epoch."""
    found = (r for r in select(records, name, method=method) if r.card and "epoch" in r.keys)
    return {r.card.seed: r for r in sorted(found, key=lambda r: int(r.keys["epoch"])) if r.card}


def _row(records: Sequence[Record], method: str, task: str) -> Row | None:
    accuracies = last_of(records, f"{task}_accuracy", method)
    guesses = {seed: r.value for seed, r in last_of(records, f"{task}_chance", method).items() if seed in accuracies}
    if not guesses:
        return None
    failed = [seed for seed, guess in guesses.items() if at_chance(accuracies[seed].value, guess, accuracies[seed].n)]
    values = [accuracies[seed].value for seed in guesses]
    small = f"± {spread(values):.1f}" if len(values) > 1 else ""
    said = "yes"
    if failed:
        said = f"WARNING: no, at chance in {plural(len(failed), 'seed')} ({', '.join(map(str, sorted(failed)))})"
    guess = mean(guesses.values())
    cells = (Cell(f"{mean(values):.1f}", small), Cell(f"{guess:.3g}"), Cell(said, words=True))
    return Row(TASKS[task], cells)
