"""A folder of photographs in, a folder of answers out: one call, and no setting that its owner has to choose."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dclib.config import MethodConfig, TrainConfig
from dclib.data.folders import named_path
from dclib.data.images import UnreadableImageError, printable
from dclib.data.photographs import Photographs, open_photographs
from dclib.distributed import leave_if_requested
from dclib.explore.alone import writing_alone
from dclib.explore.answering import Answering, Explored
from dclib.explore.answers import NONE
from dclib.explore.clock import Clock
from dclib.explore.duplicates import Duplicates, find_duplicates
from dclib.explore.found import SUMMARY, is_exploration, read_json
from dclib.explore.learn import GROWN, Network, begin_round, finish_round
from dclib.explore.look import SIDE, look_at, look_into, share_seen
from dclib.explore.settings import BATCH, ENOUGH, LEAST, Settings, as_preset, choose, model_for
from dclib.explore.write import SORTS, WRITTEN
from dclib.machine import count_cores
from dclib.planner.calibration import this_machine
from dclib.planner.hardware import Hardware
from dclib.planner.words import duration, gigabytes
from dclib.presets import runs_folder
from dclib.records import make_folder

MINUTES = 30.0
SAMPLE = 24  # photographs that are opened to tell how long all of them take
AFTER = 40.0, 0.012  # seconds that answers take, in all and for each photograph
SPARE = 0.1  # share of the time that is kept for what goes slower than told
ROOM = 45_000  # bytes for each photograph: squares, features and the page's pictures
NETWORK_ROOM = 2e8  # bytes
AMPLE = 86_400.0  # seconds in which a machine learns from any folder; what it needs of them is told
FAMILIAR = 0.1  # share of photographs that are those of before, below which they are taken for another collection
SAY_EVERY = 10.0  # seconds between two lines while photographs are looked at


def explore(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    minutes: float = MINUTES,
    sort: str = "",
    report: Callable[[str], None] = print,
) -> Explored:
    """Look at a folder of photographs, learn from them, and write what was found. Called again, it goes on.

    Args:
        folder: The photographs, with sub-folders. Nothing is written there.
        out: Where the answers go; by default a folder of its name below that of the runs.
        minutes: That it may take in all: a second call with more of them goes on for the difference.
        sort: ``"link"`` or ``"copy"``: also sort them into a folder for each cluster.
        report: Told what is done, a line at a time.

    Raises:
        ValueError: there is nothing to look at, a setting or folder is of no use, or ``out`` is of other photographs.
        OSError: the answers cannot be written, or have no room; told before anything is done.
        PreemptedError: a signal asked to leave; the same call goes on.
    """
    if not 0 < minutes < 1e6:
        raise ValueError(f"need a number of minutes above 0 and below a million; got {minutes:g}")
    if sort and sort not in SORTS:
        raise ValueError(f"need {' or '.join(SORTS)} to sort by; got {sort!r}")
    root, clock = named_path(folder), Clock(minutes)
    photographs = open_photographs(root)
    place = answers_folder(root, out)
    make_folder(place)
    with writing_alone(place):
        _check_place(place)
        _check_familiar(photographs, root, place)
        return _explore(photographs, root, place, clock, sort, report)


def answers_folder(root: Path, out: str | Path | None = None) -> Path:
    """Where the answers go.

    Raises:
        ValueError: that is among the photographs, or they are among the answers; or its name is not in UTF-8.
    """
    here = Path(os.path.realpath(root))
    name = re.sub(r"[^\w.-]+", "-", printable(here.name)).strip("-.")[:60] or "photographs"
    own = f"{name}-{hashlib.sha256(os.fsencode(here)).hexdigest()[:6]}"
    place = Path(os.path.realpath(named_path(out) if out else runs_folder() / "explored" / own))
    if printable(str(place)) != str(place):
        raise ValueError(
            f"answers would go to {printable(str(place))}, a name that is not in UTF-8, by which not all can be "
            "written; name another folder with --out"
        )
    if place == here or here in place.parents:
        raise ValueError(
            f"answers would go to {place}, among the photographs of {here}, where nothing is written; "
            "name another folder with --out"
        )
    if place in here.parents:
        raise ValueError(f"{here} lies in {place}, where answers would go; name another folder with --out")
    return place


def _check_place(place: Path) -> None:
    """ValueError where answers would replace what is no answer: files of their names that no exploration has left."""
    if (place / "look" / "squares.u8").is_file() or is_exploration(place):
        return
    if there := [name for name in WRITTEN if os.path.lexists(place / name)]:
        raise ValueError(
            f"{place} holds {', '.join(there)}, which no exploration has written and answers would replace; "
            "name another folder with --out"
        )


def _check_familiar(photographs: Photographs, root: Path, place: Path) -> None:
    """ValueError where answers on another folder, whose photographs these are not, would be replaced."""
    told = str(read_json(place / SUMMARY).get("folder", ""))
    if told == printable(os.path.realpath(root)):
        return
    share = share_seen(photographs, place / "look")
    is_familiar = not told if share is None else share >= FAMILIAR  # None: no look is kept
    if is_familiar:
        return
    shown = printable(str(root))
    unlike = f"nothing there tells whether {shown} has" if share is None else f"{shown} has next to none of"
    raise ValueError(
        f"{place} holds what was found in {told or 'another folder'}, and {unlike} those photographs; "
        "name another folder with --out, or see these by a network that is there with embed"
    )


def _explore(
    photographs: Photographs, root: Path, place: Path, clock: Clock, sort: str, report: Callable[[str], None]
) -> Explored:
    hardware = cache(partial(_measured, report))
    network = Network.at(place / "network")
    for line in _outset(photographs, root, place, clock, hardware, network, sort):
        report(line)
    seen = _progress(clock, "looked at {:,} of {:,}", report)
    looked = look_at(photographs, place / "look", lambda done, of: seen(done < of, done, of))
    if not len(looked):
        raise ValueError(
            f"none of the {len(photographs):,} pictures in {root} can be read; {looked.note}; the first: "
            f"{looked.unreadable[0][1]}"
        )
    if looked.note:
        clock.say(looked.note, report)
    told = _progress(clock, "looked for duplicates of {:.0%}", report)
    found = find_duplicates(
        looked.descriptors, [one.content for one in looked.seen], report=lambda share: told(share < 1, share)
    )
    order, distinct = _distinct_first(found.group)
    clock.say(_duplicates_line(found, len(looked)), report)
    task = Answering(looked, found, order, distinct, root, place, sort, (*photographs.images.notes, looked.note))
    why = "" if distinct >= LEAST else f"there are {distinct:,} different photographs, and it takes {LEAST}"
    if not why:
        model = model_for(float(np.median([min(one.size) for one in looked.seen])))
        model = network.rounds[0].model if network.rounds else model
        pixels = task.pixels(model)
        assert pixels.decoded is not None
        images = replace(pixels.images[:distinct], notes=())  # they have been told
        learned = replace(pixels, images=images, decoded=pixels.decoded[:distinct])
        contents = [looked.seen[i].content for i in order[:distinct]]
        deadline = clock.began + 60 * clock.minutes * (1 - SPARE) - after_seconds(len(looked))
        why = begin_round(network, learned, contents, model, clock.minutes, deadline - time.monotonic(), hardware)
        if not why:
            if (known := network.trunk()) is not None:
                clock.say("answers by the network there is, before it goes on to learn", report)
                task.answer(network, known, pixels, learned, "", clock, report)
            clock.say(f"learning: {_round_line(network)}", report)
            latest = deadline + 60 * clock.minutes * SPARE / 2
            try:
                finish_round(network, learned, deadline, latest, hardware, partial(clock.say, report=report))
            except FloatingPointError as error:
                network.give_up()
                network.save()
                why = f"the training has diverged ({str(error).partition(';')[0]})"  # then: a setting, not chosen here
        trunk = network.trunk()
        if trunk is not None:
            return task.answer(network, trunk, pixels, learned, why, clock, report)
    return task.answer_without(why, clock, report)


def _outset(
    photographs: Photographs,
    root: Path,
    place: Path,
    clock: Clock,
    hardware: Callable[[], Hardware],
    network: Network,
    sort: str,
) -> Iterator[str]:
    """What there is, what will be done until when, and what will be written. Raises OSError where there is no room."""
    n = len(photographs)
    seconds, side = sample(photographs, count_cores())
    told = (f"{n:,} photographs, {gigabytes(float(photographs.size.sum()))}", *photographs.images.notes)
    yield f"{root}: {'; '.join(told)}"
    needed = n * ROOM + NETWORK_ROOM + (photographs.size.sum() if sort == "copy" else 0)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OSError(
            f"need about {gigabytes(float(needed))} in {place}; {gigabytes(float(free))} are free: "
            "make room, or name another folder with --out"
        )
    looking = f"looking at them takes about {duration(seconds)}"
    after, settings = after_seconds(n), None
    if network.finished >= 0 and clock.minutes <= network.rounds[network.finished].minutes:
        yield (
            f"{looking} where they are new; a network is there, which learns on from {GROWN:.0%} of new ones "
            "or with more --minutes"
        )
        yield f"answers go to {place}: open {Path('explorer', 'index.html')} there"
        return
    left = (
        clock.left * (1 - SPARE) - seconds - after - 60 * (network.rounds[-1].minutes if network.finished >= 0 else 0)
    )
    if n >= LEAST and left > 0:
        settings = choose(n, model_for(side), left, hardware(), goes_on=network.finished >= 0)
    if settings:
        end = datetime.now() + timedelta(seconds=seconds + settings.seconds + after)
        yield f"{looking}, then learning: {settings.line}; done at about {end:%H:%M}"
        if settings.passes < ENOUGH:
            yield f"that is little for so many; --minutes {_wanted(settings, seconds, after)} would be enough"
    elif n >= LEAST:
        ample = choose(n, model_for(side), AMPLE, hardware())
        assert ample is not None
        yield (
            f"{looking}, and {clock.minutes:g} minutes leave too little to learn anything: duplicates and likeness in "
            f"colours are told. Called again with --minutes {_wanted(ample, seconds, after)}, it goes on"
        )
    else:
        yield f"{looking}; it takes {LEAST} photographs to learn from, so duplicates and likeness in colours are told"
    yield f"answers go to {place}, about {gigabytes(float(needed))}: open {Path('explorer', 'index.html')} there"


def _wanted(settings: Settings, seconds: float, after: float) -> int:
    """Minutes in which there are passes enough."""
    learning = ENOUGH * settings.seconds / settings.passes
    return math.ceil((learning + seconds + after) / (1 - SPARE) / 60)


def sample(photographs: Photographs, threads: int) -> tuple[float, float]:
    """Seconds that opening all of them takes, told from a few; and the median of their short sides, pixels."""
    rows = np.random.default_rng(0).permutation(len(photographs))[:SAMPLE]
    began, sides = time.monotonic(), []
    for i in rows.tolist():
        try:
            content, head, *_ = photographs.images.read(i, look_into)
            sides.append(min(head.width, head.height))
        except UnreadableImageError:
            continue
    seconds = (time.monotonic() - began) / len(rows) * len(photographs) / threads
    return seconds, float(np.median(sides)) if sides else float(SIDE)


def after_seconds(n: int) -> float:
    """Seconds that the answers take once the network has learned."""
    return AFTER[0] + AFTER[1] * n


def _measured(report: Callable[[str], None]) -> Hardware:
    base = MethodConfig(model=model_for(SIDE), train=TrainConfig(batch_size=BATCH, precision="auto"))
    return this_machine(as_preset({"network": base}, LEAST), threads=torch.get_num_threads(), report=report)


def _progress(clock: Clock, words: str, report: Callable[[str], None]) -> Callable[..., None]:
    """Tells how far something is, every ten seconds and at its end; leaves where a signal has asked to."""
    last = [time.monotonic()]

    def told(goes_on: bool, *numbers: float) -> None:
        leave_if_requested()
        if not goes_on or time.monotonic() - last[0] >= SAY_EVERY:
            last[0] = time.monotonic()
            clock.say(words.format(*numbers), report)

    return told


def _distinct_first(duplicates: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
    """Rows with one of each group of duplicates first, and how many these are."""
    first = np.ones(len(duplicates), dtype=bool)
    grouped = np.flatnonzero(duplicates != NONE)
    first[grouped] = False
    first[grouped[np.unique(duplicates[grouped], return_index=True)[1]]] = True
    return np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)]), int(first.sum())


def _duplicates_line(found: Duplicates, n: int) -> str:
    exact, near = (sum(kind == what for kind in found.kind) for what in ("exact", "near"))
    groups = int(found.group.max(initial=NONE)) + 1
    if not groups:
        return f"no duplicates among {n:,} photographs"
    told = "one group" if groups == 1 else f"{groups:,} groups"
    same = f"{exact:,} of {n:,} photographs have the bytes of another, {near:,} are nearly the same"
    return f"{told} of duplicates: {same}"


def _round_line(network: Network) -> str:
    one = network.rounds[-1]
    started = f"RotNet for {one.start.train.epochs} epochs, then " if one.start else "on from the network there is, "
    return f"{started}DeeperCluster for {one.main.train.epochs}; about {duration(one.seconds)}"
