"""How much longer a run of stages will take: what each is expected to cost on this machine, and how near that came."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dclib.config import Preset
from dclib.planner.calibration import this_machine
from dclib.planner.pages import PageCost, page_costs
from dclib.press.stages import Stage, changed_parts, key_of, urgency
from dclib.train.runnable import Outlook

TRUSTED = 30.0  # seconds that expectations count for beside what is measured: pages that are only shown tell no pace
LATE = 0.1  # share of its time that a stage is taken to need yet when it has taken longer than expected
DECIDING = (  # parts of a page that make its records anew when they change; others change what is shown of them
    *("preset", "parameters", "images"),
    *(f"dclib/{room}" for room in ("analysis", "cluster", "data", "distributed", "evaluate", "models", "pocket")),
    *(f"dclib/{room}" for room in ("precision", "randomness", "train")),
)


def price(
    stages: Sequence[Stage],
    preset: Preset,
    outlook: Outlook,
    parts: Mapping[str, Mapping[str, str]],
    cards: Mapping[str, Mapping[str, Any] | None],
    *,
    jobs: int,
    cores: int,
    force: bool,
    report: Callable[[str], None],
) -> tuple[list[Stage], dict[str, float]]:
    """The stages with what they cost on this machine, and the seconds of each that are to be expected now, reported.

    The machine is measured first where that has not been done and there is something to run.

    Args:
        parts: What each page depends on now.
        cards: Those of the pages that are there.
        jobs: Stages at work at once, which share ``cores``.
    """
    keys = {page: key_of(own) for page, own in parts.items()}
    if all(card and card.get("key") == keys[page] for page, card in cards.items()) and not force:
        return list(stages), dict.fromkeys(cards, 0.0)
    machine = this_machine(preset, threads=max(1, cores // jobs), beside=jobs, report=report)
    costs = page_costs(preset, list(cards), machine, outlook.counts, left_out=outlook.left_out, drawers=cores)
    priced = [replace(stage, cost=costs[stage.page].seconds) for stage in stages]
    expected = {
        page: expected_seconds(costs[page], card, keys[page], parts[page], force=force) for page, card in cards.items()
    }
    left = show_seconds(Forecast(priced, expected, jobs).seconds_left())
    report(f"about {left} to go, by what {machine.name} does, {jobs} at once")
    return priced, expected


def expected_seconds(
    cost: PageCost, card: Mapping[str, Any] | None, key: str, parts: Mapping[str, str], *, force: bool = False
) -> float:
    """What a page will take, given the card of the page that is there: nothing, to show it again, or all of it."""
    if card is None:
        return cost.seconds
    if card.get("key") == key and not force:
        return 0.0
    changed = changed_parts(card.get("parts") or {}, parts)
    return cost.seconds if any(name.startswith(DECIDING) for name in changed) else cost.shown


class Forecast:
    """The time that is left, at the pace of the stages that have ended.

    Args:
        stages: All of the run.
        expected: Seconds of each page.
        jobs: Stages at work at once.
    """

    def __init__(self, stages: Sequence[Stage], expected: Mapping[str, float], jobs: int) -> None:
        self.stages, self.expected, self.jobs = stages, expected, jobs
        self.measured: dict[str, float] = {}

    def learn(self, page: str, seconds: float) -> None:
        """A stage has ended."""
        self.measured[page] = seconds

    @property
    def pace(self) -> float:
        """How many times as long as expected stages take."""
        expected = sum(self.expected[page] for page in self.measured)
        return (TRUSTED + sum(self.measured.values())) / (TRUSTED + expected)

    def seconds_left(self, settled: Collection[str] = (), at_work: Mapping[str, float] | None = None) -> float:
        """Seconds to the end, given the pages that are settled, and for how long others are at work.

        The run is gone through as the runner does it: the head of the longest chain of those that wait for nothing is
        the next to start where a place is free.
        """
        pace, longest = self.pace, urgency(self.stages)
        running = {
            page: max(pace * self.expected[page] - seconds, LATE * seconds) for page, seconds in (at_work or {}).items()
        }
        done, now = set(settled), 0.0
        waiting = [stage for stage in self.stages if stage.page not in done and stage.page not in running]
        while waiting or running:
            ready = [stage for stage in waiting if done.issuperset(stage.needs)]
            for stage in sorted(ready, key=lambda stage: -longest[stage.page])[: max(0, self.jobs - len(running))]:
                running[stage.page] = now + pace * self.expected[stage.page]
                waiting.remove(stage)
            first = min(running, key=lambda page: running[page])
            now = max(now, running.pop(first))
            done.add(first)
        return now


def show_seconds(seconds: float) -> str:
    """A duration for people: ``8 s``, ``12 min 5 s``, ``3 h 20 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
