"""The table of tasks says of each network whether it learned what it was asked."""

from __future__ import annotations

from synthetic_records import make_card

from dclib.records import Record
from dclib.report.tasks import task_table


def epochs(method: str, seed: int, task: str, accuracies: list[float], chance: float) -> list[Record]:
    return [
        Record(name=f"{task}_{what}", value=value, unit="%", n=16_000, keys={"epoch": e}, card=make_card(method, seed))
        for e, accuracy in enumerate(accuracies, start=1)
        for what, value in (("accuracy", accuracy), ("chance", chance))
    ]


def test_a_task_at_chance_is_named_with_its_seeds():
    records = [
        r for seed, last in ((0, 26.0), (1, 60.0), (2, 27.5)) for r in epochs("rotnet", seed, "turn", [25, last], 25)
    ]
    (row,) = task_table(records, "rotnet").groups[0].rows
    assert row.label == "turns"
    assert row.cells[0].text == "37.8"  # mean of the last epochs
    assert row.cells[-1].text == "WARNING: no, at chance in 2 seeds (0, 2)"


def test_the_last_epoch_counts_and_each_task_has_its_row():
    records = epochs("deepercluster", 0, "turn", [90, 90], 25) + epochs("deepercluster", 0, "sub", [3.0, 30.0], 3.125)
    rows = task_table(records, "deepercluster").groups[0].rows
    assert [(row.label, row.cells[-1].text) for row in rows] == [("turns", "yes"), ("sub-classes", "yes")]
    assert [row.cells[1].text for row in rows] == ["25", "3.12"]


def test_a_network_that_was_asked_nothing_says_so():
    assert "Random was asked nothing" in repr(task_table([], "random"))
