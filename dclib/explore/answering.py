"""From a network, or without one, to the files of answers."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dclib.analysis.judge import USE, judge
from dclib.config import ModelConfig, config_hash
from dclib.data.images import printable
from dclib.data.pixels import Pixels
from dclib.explore.answers import NONE, Answers, Grouping
from dclib.explore.clock import Clock
from dclib.explore.describe import balanced, describe_images, mean_colours, part_sizes
from dclib.explore.duplicates import Duplicates
from dclib.explore.group import NEIGHBOURS, clusters_for, draw_map, find_space, group, nearest
from dclib.explore.learn import GROWN, Network, shrink
from dclib.explore.look import Looked
from dclib.explore.page import write_explorer
from dclib.explore.space import CENTROIDS, Space, kept_space
from dclib.explore.write import sort_into_folders, sorted_before, write_summary, write_tables
from dclib.models.vgg import Trunk
from dclib.records import installed_versions, source_commit
from dclib.train.start import weights_hash

COLOURS = "colours and layout, without a network"
FAILED = "nothing learned", "collapsed to colour"  # verdicts whose advice is on settings that nobody chooses here
DOUBT = "Do not rest on its clusters; duplicates are found without it. More photographs that differ may help."
GRID = 8  # squares a side whose mean colours stand for a photograph where there is no network
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Explored:
    """What an exploration has found.

    Attributes:
        folder: The answers' files.
        answers: The same as a value.
        lines: What is told at the end.
    """

    folder: Path
    answers: Answers
    lines: Sequence[str]


@dataclass(frozen=True, eq=False)
class Answering:
    """What answers are made of, but for the network.

    Attributes:
        order: (n,) rows with one of each group of duplicates first.
        distinct: How many these are.
        notes: Sentences on what was passed over.
    """

    looked: Looked
    found: Duplicates
    order: NDArray[np.int64]
    distinct: int
    root: Path
    place: Path
    sort: str
    notes: Sequence[str]

    def pixels(self, model: ModelConfig) -> Pixels:
        """All photographs in that order, as the network is trained on them."""
        content = config_hash([self.looked.seen[i].content for i in self.order])
        images = self.looked.images.subset(self.order)
        return shrink(self.looked.squares, self.order, model, images, content, self.place / "look")

    def answer(
        self,
        network: Network,
        trunk: Trunk,
        pixels: Pixels,
        learned: Pixels,
        why: str,
        clock: Clock,
        report: Callable[[str], None],
    ) -> Explored:
        """Answers by a network.

        Args:
            pixels: All, in ``order``.
            learned: Those that it has learned from.
            why: Why it has not learned any further now.
        """
        described = describe_images(trunk, pixels)
        features = torch.empty_like(described)
        features[torch.from_numpy(self.order)] = described
        clock.say("features of all photographs", report)
        space = settled_space(self.place / CENTROIDS, trunk, described[: self.distinct])
        grouping = group("DeeperCluster", features, space)
        clock.say("clusters, neighbours and a map", report)
        verdict = judged(trunk, learned, network)
        key = hashlib.sha256(space.centroids.numpy().tobytes()).hexdigest()[:20]
        weights = weights_hash(trunk)
        return self._write(grouping, features.numpy(), verdict, why, clock, report, network, weights, key)

    def answer_without(self, why: str, clock: Clock, report: Callable[[str], None]) -> Explored:
        """Answers without a network: duplicates, and likeness in colours."""
        features = colour_features(self.looked)
        grouping = by_colours(features) if self.distinct > 2 else None
        verdict = {"word": "not learned", "sentence": why, "advice": "", "measured": []}
        return self._write(grouping, features.numpy(), verdict, "", clock, report)

    def _write(
        self,
        grouping: Grouping | None,
        features: NDArray[np.float32],
        verdict: dict[str, Any],
        why: str,
        clock: Clock,
        report: Callable[[str], None],
        network: Network | None = None,
        weights: str = "",
        key: str = "",
    ) -> Explored:
        answers = self._answers(grouping)
        write_tables(self.place, answers, features)
        before = "" if self.sort else sorted_before(self.place)
        how = "link" if before == "link" else self.sort
        clustered = grouping is not None and bool((grouping.cluster != NONE).any())
        if how and clustered:
            reader: Any = self.looked.images.reader
            sort_into_folders(self.place, answers, reader.path, how)
        notes = [line for line in self.notes if line]
        said = [
            f"{verdict['word']}: {verdict['sentence']}",
            verdict["advice"],
            f"Learned no further: {why}." if why else "",
            "Nothing is sorted into folders, for there are no clusters." if self.sort and not clustered else "",
            "Copies in clusters/ are of an earlier call; --sort copy makes them anew." if before == "copy" else "",
        ]
        said = [line for line in said if line]
        page = write_explorer(
            self.place / "explorer",
            answers,
            self.looked.squares,
            title=Path(os.path.realpath(self.root)).name,
            verdict=said,
            notes=[*verdict["measured"], *notes],
            key=key,
        )
        lines = [*said, f"open {page}"]
        summary = {
            "folder": printable(answers.root),
            "photographs": len(answers),
            "different": self.distinct,
            "unreadable": [list(one) for one in self.looked.unreadable],
            "notes": notes,
            "minutes": round(clock.spent / 60, 2),
            "verdict": verdict,
            "settings": asdict(network.rounds[-1].main) if network else {},
            "clusters": 0 if grouping is None else int(grouping.cluster.max(initial=NONE)) + 1,
            "map": grouping.map_name if grouping else "",
            "network": weights,
            "versions": dict(installed_versions()),
            "commit": source_commit(),
        }
        uses = ["", *uses_of(self.place)] if network else []
        told = [*contents_of(answers), *uses, "", *lines, "", *verdict["measured"], *notes]
        write_summary(self.place, summary, told)
        for line in lines:
            clock.say(line, report)
        return Explored(self.place, answers, lines)

    def _answers(self, grouping: Grouping | None) -> Answers:
        seen = self.looked.seen
        return Answers(
            root=os.path.realpath(self.root),
            paths=list(self.looked.images.ids),
            size=np.array([one.size for one in seen], dtype=np.int32).reshape(len(seen), 2),
            taken=[one.taken for one in seen],
            bytes=np.array([one.bytes for one in seen], dtype=np.int64),
            duplicate=self.found.group,
            duplicate_kind=self.found.kind,
            groupings=(grouping,) if grouping is not None else (),
        )


def settled_space(path: Path, trunk: Trunk, features: Tensor) -> Space:
    """Clusters that stay as they are until the network is another one, or their number would be.

    Made anew for a few photographs more, all of them would be others, and the names that somebody gave them lost.

    Args:
        path: Where they are kept.
        features: (n, d) of different photographs.
    """
    weights, wanted = weights_hash(trunk), clusters_for(len(features))
    kept = kept_space(path, weights)
    if kept is not None and abs(len(kept.centroids) - wanted) <= max(1, GROWN * wanted):
        return kept
    space = find_space(features, wanted, balanced(features, part_sizes(trunk)))
    space.save(path, weights)
    return space


def colour_features(looked: Looked) -> Tensor:
    """Mean colours of a grid, (n, 3 * GRID^2) float32 in [0, 1]: what there is without a network."""
    rows = np.arange(len(looked))
    blocks = (torch.from_numpy(looked.squares[rows[i : i + BLOCK]]) for i in range(0, len(rows), BLOCK))
    return torch.cat([mean_colours(block, GRID) for block in blocks])


def by_colours(features: Tensor) -> Grouping:
    """Neighbours and places by colours, and no clusters."""
    n = len(features)
    points = F.normalize(features - features.mean(dim=0))
    neighbours, similarity = nearest(points, NEIGHBOURS)
    place, map_name = draw_map(points)
    none, zero = np.full(n, NONE, dtype=np.int32), np.zeros(n, dtype=np.float32)
    return Grouping(COLOURS, none, zero, none, zero, place, neighbours, similarity, map_name)


def judged(trunk: Trunk, pixels: Pixels, network: Network) -> dict[str, Any]:
    """The verdict on a network, as the summary keeps it."""
    verdict = judge(trunk, pixels, network.history(), seconds_per_epoch=network.seconds_per_epoch())
    advice = DOUBT if verdict.word in FAILED else verdict.advice
    if verdict.goes_on:
        more = math.ceil(network.rounds[-1].minutes + network.rounds[-1].seconds / 60)
        again = f"The same command with --minutes {more} goes on"
        learned = verdict.word == "learned"
        advice = f"{USE} {again}, and may make it better yet." if learned else f"{again} from here."
    return {**asdict(verdict), "advice": advice, "measured": verdict.lines[2:]}


def uses_of(place: Path) -> list[str]:
    """The commands that take the answers further, for who finds them later."""
    here = shlex.quote(printable(str(place)))
    return [
        f"python -m dclib export {here}  # the network, in common formats",
        f"python -m dclib embed {here} OTHERS  # clusters and neighbours of the photographs in a folder OTHERS",
    ]


def contents_of(answers: Answers) -> list[str]:
    """What each file of the answers is, for who finds them later."""
    return [
        f"Answers on {len(answers):,} photographs of {printable(answers.root)}",
        "",
        "explorer/index.html  all of it to look through in a browser; works without a server or the internet",
        "photos.csv           a line for each photograph: cluster, distance to its middle, second choice, sharpness",
        "                     (0: the second would do as well, 1: no doubt), place on the map, group of duplicates",
        "photos.parquet       the same with types",
        "features.npy         its features; row i is line i of photos.csv",
        "duplicates.csv       groups of photographs that show the same; the one with most pixels is marked to keep",
        "clusters/            a folder for each cluster, where --sort asked for it",
        "network/             what was trained",
        "centroids.npz        how features become points, and the clusters' middles",
        "look/                small squares of the photographs, so that a second call need not open them again",
    ]
