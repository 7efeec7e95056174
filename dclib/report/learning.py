"""Whether networks learned what they were asked in pre-training: nothing may be concluded from one that did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from dclib.records import Record, select
from dclib.report.provenance import named
from dclib.report.series import methods_in, over_seeds, plural, spread, title_of
from dclib.report.tables import Cell, Group, Row, Table
from dclib.train.chance import TASKS, at_chance


def unlearned(records: Sequence[Record]) -> Mapping[str, str]:
    """Method -> what it has not learned, in words; methods that are well are left out.

    A method counts as not having learned a task if one of its seeds has not, after its last epoch: to leave such
    seeds out would be to choose among results.
    """
    trained = [r for r in records if r.card and r.card.stage == "pretrain" and "epoch" in r.keys]
    found = {}
    for method in methods_in(trained):
        said = [
            f"{told} ({', '.join(f'{accuracy:.0f} %' for accuracy, _ in failed.values())} after the last epoch in "
            f"seed{'s' if len(failed) > 1 else ''} {', '.join(map(str, failed))}, "
            f"chance {next(iter(failed.values()))[1]:.2g} %)"
            for task, told in TASKS.items()
            if (failed := failures(trained, method, task))
        ]
        if said:
            found[method] = f"{title_of(method)} has not learned to tell {' and '.join(said)}"
    return found


def failures(records: Sequence[Record], method: str, task: str) -> dict[int, tuple[float, float]]:
    """Seed -> accuracy and chance, %, of the seeds that are no better than a guess at a task after the last epoch."""
    chances = _last(records, f"{task}_chance", method)
    return {
        seed: (end.value, chances[seed].value)
        for seed, end in _last(records, f"{task}_accuracy", method).items()
        if seed in chances and at_chance(end.value, chances[seed].value, end.n)
    }


def task_table(records: Sequence[Record], method: str) -> Table:
    """For each task of a method its accuracy in the last epoch, what a guess gives, and the seeds no better than it."""
    rows = tuple(row for task in TASKS if (row := _row(records, method, task)) is not None)
    empty = f"{title_of(method)} was asked nothing, or has not been trained yet."
    used = [r for r in records if r.card and r.card.method == method]
    return Table(
        caption=f"What {title_of(method)} was asked, last epoch",
        columns=("Task", "right, %", "by a guess, %", "learned?"),
        groups=(Group("", rows, "" if rows else empty),),
        notes=(
            f"Values: {over_seeds(used)}. Not learned: right at most 1.2 times as often as a guess. No claim is judged "
            "by a comparison with a network that has not learned its task.",
        )
        if rows
        else (),
        source=named(used, *(f"{task}_accuracy" for task in TASKS)),
    )


def _row(records: Sequence[Record], method: str, task: str) -> Row | None:
    values = [record.value for record in _last(records, f"{task}_accuracy", method).values()]
    chances = [record.value for record in _last(records, f"{task}_chance", method).values()]
    if not values or not chances:
        return None
    failed = failures(records, method, task)
    said = (
        f"WARNING: no, at chance in {plural(len(failed), 'seed')} ({', '.join(map(str, failed))})" if failed else "yes"
    )
    small = f"± {spread(values):.1f}" if len(values) > 1 else ""
    return Row(TASKS[task], (Cell(f"{mean(values):.1f}", small), Cell(f"{mean(chances):.3g}"), Cell(said, words=True)))


def _last(records: Sequence[Record], name: str, method: str) -> dict[int, Record]:
    """Seed -> the record of its last epoch, by seed."""
    found: dict[int, Record] = {}
    for record in select(records, name, method=method):
        if record.card and "epoch" in record.keys:
            before = found.get(record.card.seed)
            if before is None or int(record.keys["epoch"]) > int(before.keys["epoch"]):
                found[record.card.seed] = record
    return dict(sorted(found.items()))
