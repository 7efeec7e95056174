"""Which networks have not learned the task that they were trained on: nothing may be concluded from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dclib.records import Record, select
from dclib.report.finder import last
from dclib.report.series import methods_in, title_of
from dclib.train.chance import at_chance


@dataclass(frozen=True)
class Task:
    """One of the things a network is trained to tell, with the names of its records."""

    accuracy: str  # % of an epoch's images
    chance: str  # what guessing gets right, %
    told: str  # in words


TASKS = (
    Task("turn_accuracy", "turn_chance", "turns"),
    Task("super_accuracy", "super_chance", "super-classes"),
    Task("sub_accuracy", "sub_chance", "sub-classes"),
    Task("train_accuracy", "sub_chance", "labels"),
)
TURNS = 4


def unlearned(records: Sequence[Record]) -> Mapping[str, str]:
    """Method -> what it has not learned, in words; methods that are well are left out.

    A method counts as not having learned a task if one of its seeds has not, after its last epoch: to leave such
    seeds out would be to choose among results.
    """
    trained = [r for r in records if r.card and r.card.stage == "pretrain" and "epoch" in r.keys]
    found = {}
    for method in methods_in(trained):
        said: dict[str, str] = {}  # with one super-cluster, super-classes are the turns
        for task in TASKS:
            for told, how in _failures(trained, method, task).items():
                said.setdefault(told, how)
        if said:
            listed = " and ".join(f"{told} ({how})" for told, how in said.items())
            found[method] = f"{title_of(method)} has not learned to tell {listed}"
    return found


def _failures(records: Sequence[Record], method: str, task: Task) -> dict[str, str]:
    """The task in words -> accuracies, chance and seeds, if some seed has not learned it; else empty."""
    found: dict[int, list[Record]] = {}
    for record in select(records, task.accuracy, method=method):
        if record.card:
            found.setdefault(record.card.seed, []).append(record)
    failed, chances = {}, []
    for seed, epochs in sorted(found.items()):
        end = max(epochs, key=lambda r: int(r.keys["epoch"]))
        chance = _chance(records, end, task)
        if chance and at_chance(end.value, chance, end.n):
            failed[seed] = f"{end.value:.0f} %"
            chances.append(chance)
    if not failed:
        return {}
    seeds = f"seed{'s' if len(failed) > 1 else ''} {', '.join(map(str, failed))}"
    told = "turns" if chances[0] == 100 / TURNS and task.accuracy == "super_accuracy" else task.told
    return {told: f"{', '.join(failed.values())} after the last epoch in {seeds}, chance {chances[0]:.2g} %"}


def _chance(records: Sequence[Record], end: Record, task: Task) -> float:
    """What guessing gets right, as recorded, or as it follows from the settings; 0 where neither tells."""
    card = end.card
    if card is None:
        return 0.0
    recorded = select(records, task.chance, method=card.method, seed=card.seed)
    if recorded:
        return last(recorded)
    cluster = card.config.get("cluster", {})
    kind = card.config.get("method", card.method)
    if task.accuracy == "super_accuracy" and cluster:  # turns times super-clusters, of which RotNet has none
        return 100 / (TURNS * (cluster["n_super"] if kind == "deepercluster" else 1))
    if task.accuracy == "sub_accuracy":
        return 100 / cluster["n_sub"] if "n_sub" in cluster else 0.0
    return 0.0
