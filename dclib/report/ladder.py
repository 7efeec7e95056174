"""The page of what was tried before the final runs: every rung of the ladder, good and bad, on development seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean

from dclib.config import Preset
from dclib.paper import NAMES
from dclib.presets import project_root
from dclib.records import Record, read_records, select
from dclib.report.display import Fragment, say
from dclib.report.seen import shown
from dclib.report.series import Curves, accuracy_by_layer, final_values, order_methods, over_seeds, plural, signed
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table, value_cell

LADDER = "ladder"  # folder of its records below those of an edition, and of their files in the book
LAYERS = (5, 7, 9, 11, 12, 13)
LATE = (11, 12, 13)  # where the paper's methods differ
EMPTY = "No rung of a ladder was published with this edition."
PASSES_ALIKE = 0.01  # share by which the passes of two trainings may differ and count as equal
TOLD_ELSEWHERE = ("train.epochs",)  # passes have a column of their own


def ladder_folder(preset: Preset) -> Path:
    """Where the records of a preset's ladder are published."""
    return project_root() / "results" / preset.name / LADDER / "records"


def load_ladder(preset: Preset) -> list[Record]:
    """The records of every rung; none where nothing was tried."""
    return read_records(ladder_folder(preset))


@dataclass(frozen=True)
class _Rungs:
    """What was tried, by name, in the book's order."""

    settings: Mapping[str, Mapping[str, str]]  # flat: {"method": "rotnet", "train.lr": "0.05"}
    passes: Mapping[str, float]  # images shown, those of the rungs that it starts from included
    curves: Curves

    def measure(self, rung: str) -> str:
        """The RotNet of as many passes that is trained most as a rung is, of several the best; empty without one."""
        own, passes = self.settings[rung], self.passes[rung]
        alike = [
            other
            for other, settings in self.settings.items()
            if settings["method"] == "rotnet" and not settings["init"]
            if passes and abs(self.passes[other] - passes) <= PASSES_ALIKE * passes
        ]

        def nearness(other: str) -> tuple[int, float]:
            theirs = self.settings[other]
            shared = sum(own[key] == theirs.get(key) for key in own if key.startswith(("train.", "model.")))
            late = [curve[layer - 1] for curve in self.curves.get(other, {}).values() for layer in LATE]
            return shared, mean(late or [0.0])

        return "" if own["method"] == "rotnet" else max(alike, key=nearness, default="")

    def leads(self, rung: str) -> dict[int, Mapping[int, float]]:
        """For each late layer, seed -> points ahead of the RotNet that is its measure; empty where there is none."""
        ours, theirs = self.curves.get(rung, {}), self.curves.get(self.measure(rung), {})
        both = sorted(ours.keys() & theirs.keys())
        return {n: {seed: ours[seed][n - 1] - theirs[seed][n - 1] for seed in both} for n in LATE}

    def late_lead(self, rung: str) -> list[float]:
        """The mean of the late layers, for each seed."""
        leads = self.leads(rung)
        return [mean(found[seed] for found in leads.values()) for seed in set.intersection(*map(set, leads.values()))]

    @cached_property
    def usual(self) -> dict[str, str]:
        """The value that most rungs have, of each setting."""
        keys = dict.fromkeys(key for settings in self.settings.values() for key in settings if "." in key)
        every = self.settings.values()
        return {key: Counter(settings.get(key, "") for settings in every).most_common(1)[0][0] for key in keys}

    def changed(self, rung: str) -> list[str]:
        """What differs from what most rungs have, ``n_sub 32 (64)``; nothing for a network that is not trained."""
        own = self.settings[rung] if self.passes[rung] else {}
        differing = [key for key in own if own[key] != self.usual.get(key, own[key]) and key not in TOLD_ELSEWHERE]
        return [f"{key.split('.', 1)[1]} {own[key]} ({self.usual[key]})" for key in differing]

    def what(self, rung: str) -> str:
        """``DeeperCluster from rotnet_1m: n_sub 32 (64)``: behind the colon what differs from what most rungs have."""
        own, changed = self.settings[rung], self.changed(rung)
        origin = f" from {own['init']}" if own["init"] else ""
        return f"{NAMES.get(own['method'], own['method'])}{origin}{': ' if changed else ''}{', '.join(changed)}"


def ladder_table(records: Sequence[Record]) -> Table:
    """A line for each rung: what it is, its passes, its probes, and how far it is from the RotNet of equal passes."""
    rungs = _rungs(records)
    by_itself = [rung for rung, settings in rungs.settings.items() if not settings["init"]]
    later = [rung for rung in rungs.settings if rung not in by_itself]
    tested = sorted({r.n for r in select(records, "top1", dataset="objects")})
    notes = (
        "Passes: images shown in training, in millions, those of the network that it starts from included. Probes: "
        f"accuracy in % on {' or '.join(f'{n:,}' for n in tested)} images held out of the training images; no test "
        "image was looked at. NMI: of the last clustering with the classes. Conv11 to conv13 less RotNet: points "
        "ahead, seed by seed, of the RotNet of as many passes in all that is trained most alike, which is named; a "
        "dash where there is none. Behind a colon stands what differs from the setting of most rungs, which is in "
        f"brackets. Values: {over_seeds(records)}.",
    )
    ahead, probed = (f"conv{n} − RotNet" for n in LATE), (f"conv{n}" for n in LAYERS)
    columns = ("Rung", "what it is", "passes", *ahead, "RotNet", *probed, "NMI")
    groups = [
        Group(title, tuple(_row(records, rungs, rung) for rung in some))
        for title, some in (("Trained by itself", by_itself), ("Trained on from another rung", later))
    ]
    return Table(
        caption="Every rung that was tried",
        columns=columns,
        groups=tuple(groups) if rungs.settings else (Group("", (), EMPTY),),
        notes=notes if rungs.settings else (),
    )


def ladder_in_short(records: Sequence[Record]) -> Fragment:
    """How many rungs with clusters are ahead of the RotNet of equal passes, and which is the best and the worst."""
    rungs = _rungs(records)
    clustering = [rung for rung, s in rungs.settings.items() if s["method"] in ("deepercluster", "deepcluster")]
    leads = {rung: mean(found) for rung in clustering if (found := rungs.late_lead(rung))}
    if not leads:
        return say("No rung with clusters stands beside a RotNet of as many passes.")
    best, worst = max(leads, key=leads.__getitem__), min(leads, key=leads.__getitem__)
    ahead = sum(value > 0 for value in leads.values())
    return say(
        f"Mean of conv11, conv12 and conv13: of {plural(len(leads), 'rung')} with clusters, {ahead} "
        f"{'is' if ahead == 1 else 'are'} ahead of the RotNet of as many passes. The best is {best} "
        f"({signed(leads[best])} points), the last {worst} ({signed(leads[worst])})."
    )


def _rungs(records: Sequence[Record]) -> _Rungs:
    cards = {r.card.method: r.card for r in records if r.card and r.card.stage == "pretrain"}
    shown: dict[str, dict[int, int]] = {rung: {} for rung in cards}  # rung -> seed -> images
    for record in select(records, "loss", stage="pretrain"):
        if record.card:
            own = shown[record.card.method]
            own[record.card.seed] = own.get(record.card.seed, 0) + record.n
    alone = {rung: mean(own.values()) if own else 0.0 for rung, own in shown.items()}

    def passes(rung: str) -> float:
        before = str(cards[rung].config["init"])
        return alone[rung] + (passes(before) if before in cards else 0.0)

    names = order_methods(cards)
    names.sort(key=lambda rung: passes(rung))  # those of equal passes side by side
    settings = {rung: _flat(cards[rung].config) for rung in names}
    return _Rungs(settings, {rung: passes(rung) for rung in names}, accuracy_by_layer(records, "objects"))


def _row(records: Sequence[Record], rungs: _Rungs, rung: str) -> Row:
    curves = rungs.curves.get(rung, {})
    probes = [value_cell(curve[layer - 1] for curve in curves.values()) for layer in LAYERS]
    nmi = value_cell(final_values(records, "final_nmi_labels", rung).values(), digits=3)
    ahead = [_lead_cell([*found.values()]) for found in rungs.leads(rung).values()]
    passes = Cell(f"{rungs.passes[rung] / 1e6:.1f}" if rungs.passes[rung] else NO_VALUE)
    measure = Cell(rungs.measure(rung) or NO_VALUE)
    return Row(rung, (Cell(rungs.what(rung), words=True), passes, *ahead, measure, *probes, nmi))


def _lead_cell(values: Sequence[float]) -> Cell:
    return Cell(signed(mean(values)), value_cell(values).small) if values else Cell(NO_VALUE)


def _flat(values: Mapping[str, object], above: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": str(value)}
    return found


def to_have_seen(rungs: Sequence[Record]) -> Fragment:
    """How many rungs with clusters were ahead of the RotNet of as many passes."""
    words = ladder_in_short(rungs).text
    return shown([f"{line.rstrip('.')}." for line in words.split(". ")], "the rungs that were tried")
