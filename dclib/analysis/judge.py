"""Is a network any good? One verdict without labels: a score, what was measured, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dclib.analysis.measures import measure_network, sample, share_of_copies
from dclib.data.pixels import Pixels
from dclib.models.vgg import Trunk
from dclib.train.chance import TASKS, tasks_at_chance
from dclib.train.quality import FEWEST_AXES

Word = Literal["learned", "still learning", "nothing learned", "collapsed to colour", "collapsed to duplicates"]
FEWEST = 30  # images below which there is nothing to say
LEARNED = 0.03  # by which a score has to be above that of a network that was only drawn, whose own differ by as much
CLEAR = 0.1  # by which it is above it without any doubt
COLOUR = 0.4  # share of the images' mean colours that clusters explain, from which they are clusters of colour
COPIES = 0.5  # share of images that are copies of others, from which a failure is put down to them
RISE = 5.0  # points by which accuracy rises with a doubling of the epochs, in a training that should go on


@dataclass(frozen=True)
class Verdict:
    """What is said of a network.

    Attributes:
        word: The verdict.
        sentence: It in a sentence, with the time that is missing where it is still learning.
        advice: What to do next, a sentence.
        score: How well its clusters hold when images are cropped, and not by colour, in [0, 1]. 0 where features
            cannot be clustered.
        measures: All that was measured, by name: see ``MEANING``.
    """

    word: Word
    sentence: str
    advice: str
    score: float
    measures: Mapping[str, float]

    @property
    def goes_on(self) -> bool:
        """Whether a longer training may well make it better."""
        return self.word in ("learned", "still learning") and self.measures["rise"] > RISE

    @property
    def lines(self) -> list[str]:
        """For people: the verdict, what to do, and each measure in plain words."""
        said = [f"{MEANING[name]}: {_shown(name, self.measures[name])}" for name in MEANING if name in self.measures]
        return [f"{self.word}: {self.sentence}", self.advice, *said]


MEANING: Mapping[str, str] = {
    "score": "score, from 0 to 1: how well clusters hold when images are cropped, and not by colour",
    "cropped": "an image that is cropped stays in its cluster (0: by chance, 1: always)",
    "starts": "two clusterings from different starts agree (0: by chance, 1: fully)",
    "drawn": "the score of a network of this form that was only drawn",
    "rise": "points of accuracy that its task gained when the epochs doubled",
    "previous": "the last two clusterings of the training agree (0: not at all, 1: fully)",
    "effective_rank": "axes that the features really use",
    "found_again": "images that are recognised in a crop of themselves, among all others",
    "largest": "images in the largest of ten clusters",
    "colour": "of the images' mean colours, what ten clusters explain",
    "copies": "images that are copies of others",
    "copies_found": "copies whose nearest image is one of their own group",
    "images": "images looked at",
}
USE = "Use it; look at the clusters, the steadiest first."  # one that has learned
DECIMALS = {"images": 0, "effective_rank": 1, "rise": 1}  # two of the others
SHARES = ("found_again", "largest", "colour", "copies", "copies_found")


def judge(
    trunk: Trunk,
    pixels: Pixels,
    history: Sequence[Mapping[str, float]],
    *,
    seconds_per_epoch: float,
    duplicates: NDArray[np.int32] | None = None,
    drawn: float | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Verdict:
    """Judge a network by images without labels: at most 2,000 of them, drawn at random, each whole and cropped twice.

    Args:
        trunk: Put in evaluation mode meanwhile, then put back. Features that are not finite give a verdict too.
        pixels: The images that it is for.
        history: Of its training, a row for each epoch and clustering; empty where there was none.
        seconds_per_epoch: What an epoch more would take.
        duplicates: (n,) group of the images that show the same, -1 for one of its own. One of each group is judged by.
        drawn: The measure of that name from an earlier verdict on a network of the same form and these images.
        report: Told what is being done.
    """
    groups = np.full(len(pixels), -1, dtype=np.int32) if duplicates is None else duplicates
    rows = sample(groups)
    measures = {"images": float(len(rows)), **({} if duplicates is None else {"copies": share_of_copies(groups)})}
    if len(rows) < FEWEST:
        return nothing_told(measures, f"there are {len(rows)} different images, and {FEWEST} are needed to tell")
    report(f"judging the network by {len(rows):,} images, without labels")
    measures |= measure_network(trunk, pixels, rows, groups, drawn)
    if before := [row["nmi_previous"] for row in history if "nmi_previous" in row]:
        measures["previous"] = before[-1]
    measures["rise"] = rise(history)
    idle = [TASKS[task] for task, _, _ in tasks_at_chance(_last(history), len(pixels))]
    return verdict_of(measures, idle, seconds_per_epoch * len(_epochs(history)))


def word_of(measures: Mapping[str, float]) -> Word:
    """The verdict in a word, by what :func:`judge` measured.

    A score far above that of a drawn network has learned, whether or not it would go on; one far below it has not,
    however well it does its task. In between it depends on whether its answers were still getting better.
    """
    if "score" not in measures:
        return "nothing learned"
    gain = measures["score"] - measures["drawn"]
    if measures["colour"] >= COLOUR:
        return "collapsed to colour"
    if gain <= LEARNED and measures.get("copies", 0.0) >= COPIES:
        return "collapsed to duplicates"
    if measures["effective_rank"] < FEWEST_AXES:
        return "nothing learned"
    if -LEARNED < gain <= CLEAR and measures["rise"] > RISE:
        return "still learning"
    return "learned" if gain > LEARNED else "nothing learned"


def verdict_of(measures: Mapping[str, float], idle: Sequence[str], seconds: float) -> Verdict:
    """The verdict that measures lead to.

    Args:
        measures: Of :func:`judge`.
        idle: Tasks at chance at the end of the training, in words.
        seconds: What as many epochs more would take.
    """
    if "score" not in measures:
        return nothing_told(measures, "its features are not finite, or the same for every image")
    word, rises = word_of(measures), measures["rise"] > RISE
    minutes = max(1, math.ceil(seconds / 60))
    if word == "collapsed to colour":
        said = f"colours explain its clusters ({measures['colour']:.0%} of the images' mean colours)"
        advice = "Let it see no colour (model.stem: sobel), or start from a network that tells turns, and train again."
    elif word == "collapsed to duplicates":
        said = f"{measures['copies']:.0%} of the images are copies of others, and of the rest it knows little"
        advice = "Leave all but one of each group of copies out, and train again."
    elif word == "still learning":
        said = f"{minutes} more {'minute' if minutes == 1 else 'minutes'}; its answers were still getting better"
        advice = f"Give it as long again, {minutes} min, and judge again."
    elif word == "learned":
        said, advice = "its clusters hold", USE
        if rises:
            advice += f" Its answers were still getting better: as long again, {minutes} min, may make it better yet."
    elif measures["effective_rank"] < FEWEST_AXES:
        said = f"its features lie along one line ({measures['effective_rank']:.1f} axes), which tells few kinds apart"
        advice = "Lower train.lr, and train again from the start."
    elif rises:
        said = "it gets better at its task, and its clusters are worse than those of a network that was only drawn"
        advice = "More of the same will hardly help: lower train.lr, or take another method."
    else:
        said = "its clusters hold hardly better than those of a network that was only drawn"
        advice = "Train longer or on more images; if that changes nothing, lower train.lr, or ask for fewer clusters."
    how = f"its score is {measures['score']:.2f}, and that of a network that was only drawn {measures['drawn']:.2f}"
    also = f"; at chance: {' and '.join(idle)}" if idle else ""
    return Verdict(word, f"{said}; {how}{also}", advice, measures["score"], measures)


def nothing_told(measures: Mapping[str, float], why: str) -> Verdict:
    """Of a network whose features cannot be clustered, or of too few images."""
    advice = "Lower train.lr and train again, or give more images that differ."
    return Verdict("nothing learned", why, advice, 0.0, measures)


def rise(history: Sequence[Mapping[str, float]]) -> float:
    """By how many points of 100 accuracy rose when the epochs doubled: of the task that rose most.

    Only epochs before the learning rate falls count, for accuracy always rises with its fall. Of one epoch, what it
    rose from chance. 0 where nothing was asked.
    """
    epochs = _epochs(history)
    highest = max((row.get("lr", 0.0) for row in epochs), default=0.0)
    risen = [0.0]
    for task in TASKS:
        asked = [row for row in epochs if f"{task}_accuracy" in row and row.get("lr", 0.0) == highest]
        if asked:
            before = asked[len(asked) // 2 - 1][f"{task}_accuracy"] if len(asked) > 1 else asked[0][f"{task}_chance"]
            risen.append(asked[-1][f"{task}_accuracy"] - before)
    return max(risen)


def _epochs(history: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    return [row for row in history if "loss" in row]


def _last(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The last epoch's row; empty without one."""
    return next(reversed(_epochs(history)), {})


def _shown(name: str, value: float) -> str:
    if name in SHARES:
        return f"{value:.0%}"
    return f"{value:,.{DECIMALS.get(name, 2)}f}"
