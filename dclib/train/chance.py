"""Whether a task was learned at all: accuracies beside what a guess gives. No torch, for the book asks too."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dclib.methods import OUTLINES

AHEAD = 1.2  # times as often right as a guess, at least, to count as learned
DEVIATIONS = 3.0  # standard deviations of a guesser's luck, at least

# what a network is asked in pre-training, by the beginning of its records' names
TASKS: Mapping[str, str] = {task: words for outline in OUTLINES.values() for task, words in outline.asks.items()}


def at_chance(accuracy: float, chance: float, n: int) -> bool:
    """Whether an accuracy over ``n`` images is no better than a guess.

    That is, right at most 1.2 times as often, or at most three standard deviations (of a Poisson count) more often.

    Args:
        accuracy: And ``chance``, %.
        n: Images it was measured on, at least 1.
    """
    guessed, right = n * chance / 100, n * accuracy / 100
    return right <= max(AHEAD * guessed, guessed + DEVIATIONS * math.sqrt(guessed))


def tasks_at_chance(values: Mapping[str, float], n: int) -> list[tuple[str, float, float]]:
    """The tasks among ``values``, ``<task>_accuracy`` and ``<task>_chance``, that are at chance: name and both."""
    asked = [(t, values[f"{t}_accuracy"], values[f"{t}_chance"]) for t in TASKS if f"{t}_chance" in values]
    return [(task, accuracy, chance) for task, accuracy, chance in asked if at_chance(accuracy, chance, n)]
