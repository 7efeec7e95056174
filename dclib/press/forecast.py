"""How much longer a run of stages will take: from what they took before, or from what they are expected to cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dclib.press.stages import Stage, urgency

START_SECONDS = 10.0  # of a kernel and its imports
IMAGES_PER_SECOND = 500.0  # of one training on one core: a first guess, outweighed by what is measured
GUESSED_SECONDS = 2.0  # how much that counts: beyond a start, which varies as much, a small stage tells no pace


class Forecast:
    """Expected seconds of every stage, corrected as stages end.

    Args:
        stages: All of the run.
        before: Seconds that pages took in earlier runs.
        jobs: Stages at work at once.
    """

    def __init__(self, stages: Sequence[Stage], before: Mapping[str, float], jobs: int) -> None:
        self.stages, self.jobs = stages, jobs
        self.measured = dict(before)

    def learn(self, page: str, seconds: float) -> None:
        """A stage has ended."""
        self.measured[page] = seconds

    def expected(self, stage: Stage) -> float:
        """Seconds of one stage: as before, or by its cost at the pace of the stages that are known."""
        if stage.page in self.measured:
            return self.measured[stage.page]
        known = [(s.cost, self.measured[s.page]) for s in self.stages if s.page in self.measured and s.cost > 1]
        start = min(START_SECONDS, *(seconds for _, seconds in known), START_SECONDS)
        seconds = GUESSED_SECONDS + sum(seconds - start for _, seconds in known)
        images = GUESSED_SECONDS * IMAGES_PER_SECOND + sum(cost for cost, _ in known)
        return start + stage.cost * seconds / images

    def seconds_left(self, settled: Collection[str], at_work: Mapping[str, float]) -> float:
        """Seconds to the end, given the pages that are settled, and for how long others are at work.

        The work that is left shared among the jobs, or the longest chain of stages that wait for each other.
        """
        waiting = [
            replace(
                stage,
                cost=max(0.0, self.expected(stage) - at_work.get(stage.page, 0.0)),
                needs=tuple(page for page in stage.needs if page not in settled),
            )
            for stage in self.stages
            if stage.page not in settled
        ]
        if not waiting:
            return 0.0
        return max(sum(stage.cost for stage in waiting) / self.jobs, *urgency(waiting).values())
