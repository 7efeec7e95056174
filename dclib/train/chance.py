"""Whether an accuracy is what guessing gives: a task that a network has not learned at all."""

from __future__ import annotations

import math

BARELY = 1.2  # times chance: less than that is as good as nothing, however many images it was measured on
DEVIATIONS = 3.0  # standard deviations of guessing: with few images, luck alone goes so far


def at_chance(accuracy: float, chance: float, n: int) -> bool:
    """Whether so few images were right that the task has not been learned.

    Args:
        accuracy: Share of the images that were right, %.
        chance: Share that guessing gets right, %.
        n: Images it was measured on.
    """
    hits, guessed = accuracy / 100 * n, chance / 100 * n
    return hits <= max(BARELY * guessed, guessed + DEVIATIONS * math.sqrt(guessed))
