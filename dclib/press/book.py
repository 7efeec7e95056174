"""The whole way to a book: readable at once from what is published, then page after page this machine's own.

Until its own pages are there, a book shows those of the published edition; while a run goes on it is built anew in
the background, and each time takes the place of the last one whole. Ended at any moment, a book is there, and the same
command goes on. No torch here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dclib.data.fetch import fetch_set
from dclib.data.public_sets import place_of, public_set
from dclib.presets import load_preset
from dclib.press.edition import Edition, find_edition, make_edition
from dclib.press.network import needs_networks
from dclib.press.progress import ended_state, running_state, write_state
from dclib.press.runner import Outcome, Progress, read_card, run_preset, workspace
from dclib.press.site import book_folder, build_book
from dclib.press.workers import stop
from dclib.report.commands import as_yaml
from dclib.train.absent import lacks_images

COMMAND = (sys.executable, "-m", "dclib")
LOG = "build.log"  # beside the edition's pages: what a build in the background says
REBUILD_SECONDS = 240.0  # at least between two builds while a run goes on: each takes half a minute from it


@dataclass(frozen=True)
class Wanted:
    """Which book: of what, and where."""

    preset: str
    data: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    out: str = ""

    @property
    def html(self) -> Path:
        """The folder of the book."""
        return book_folder(self.out)

    @property
    def as_options(self) -> list[str]:
        """Its settings, as a command is given them."""
        return [f"--set={key}={as_yaml(value)}" for key, value in self.settings.items()]

    def build(self) -> Path:
        """Build it, unless the one that is there was made of the same; returns its index.html."""
        return build_book(self.preset, data=self.data, settings=self.settings, out=self.out, again=False)


def make_book(wanted: Wanted, *, train: bool = True, **options: Any) -> dict[str, Outcome]:
    """Make the published edition where pages are missing, then run what is not up to date, and build.

    Args:
        train: Whether anything is trained and measured here; otherwise the book is that of what there is.
        options: Of :func:`dclib.press.runner.run_preset`.

    Returns:
        What became of each page that was to run. Where one failed and nothing stands in for it, the book is as it was.

    Raises:
        ValueError, BuildError, OSError: as :func:`dclib.data.fetch.fetch_set` of a set that is not there,
            :func:`run_preset` and :func:`dclib.press.site.build_book`.
    """
    edition = find_edition(wanted.preset, wanted.data)
    if edition:
        show_edition(edition, wanted)
    elif not train:
        raise ValueError(
            f"need published results to make a book without training; there are none of preset {wanted.preset!r} "
            "below results/: leave TRAIN=0 out"
        )
    if not train:
        wanted.build()
        return {}
    _fetch_missing(wanted)
    background = Background(wanted, edition)
    try:
        outcomes = run_preset(
            wanted.preset, data=wanted.data, settings=wanted.settings, watch=background.watch, **options
        )
    except BaseException:
        background.say("A run was interrupted; the command make book goes on with it.")
        raise
    finally:
        background.end()
    bad = [page for page, outcome in outcomes.items() if outcome.is_missing]
    _make_networks(wanted)
    if edition or not bad:
        wanted.build()
    background.say(f"A run ended with pages missing: {', '.join(bad)}." if bad else "")
    return outcomes


def show_edition(edition: Edition, wanted: Wanted) -> None:
    """Make the pages that this machine has not made, and the book with them, and say where it is.

    The pages of an edition that stands beside it are made too.
    """
    own = workspace(edition.preset)
    needed = [stage.page for stage in edition.stages if read_card(own, stage.page) is None]
    failed = make_edition(edition, needed) if needed else {}
    if edition.beside:
        failed |= _make_beside(edition.beside)
    for page, why in failed.items():
        print(f"  without {page}: {why.splitlines()[0]}", flush=True)
    if needed:
        print(f"readable now: {os.path.relpath(wanted.build())}", flush=True)


def _make_beside(edition: Edition) -> dict[str, str]:
    """Make the pages of an edition in another one's book; returns why some failed, by their names."""
    try:
        failed = make_edition(edition, edition.own_pages)
    except ValueError as error:  # a run of its preset is at work, and the book does not wait for it
        return {f"the part {edition.name}": str(error)}
    return {f"{edition.name}/{page}": why for page, why in failed.items()}


def _fetch_missing(wanted: Wanted) -> None:
    """Fetch the set that a preset reads, where it is one that can be fetched and is not there."""
    data = load_preset(wanted.preset, wanted.settings).data
    public = public_set(data, "pool") if lacks_images(data) and not wanted.data else None
    if public and not place_of(public.name).exists():
        fetch_set(public, place_of(public.name), report=partial(print, flush=True))


def _make_networks(wanted: Wanted) -> None:
    """Have the page of two networks run those that were trained here: in a process of its own, which needs torch."""
    if needs_networks(load_preset(wanted.preset, wanted.settings)):
        command = [*COMMAND, "network", "--preset", wanted.preset, *wanted.as_options]
        subprocess.run(command, check=False)  # it says what it lacks, and the page then has those that were published


class Background:
    """Builds the book anew while a run goes on, when there are new pages, and says on its front page how far it is."""

    def __init__(self, wanted: Wanted, edition: Edition | None) -> None:
        self.wanted, self.edition = wanted, edition
        self.process: subprocess.Popen[bytes] | None = None
        self.built, self.pages = time.monotonic(), 0

    def watch(self, progress: Progress) -> None:
        """Tell the front page, and start a build if pages have come and the last build is long enough ago."""
        self.say(running_state(progress))
        pages = sum(outcome.status == "done" for outcome in progress.settled.values())
        idle = self.process is None or self.process.poll() is not None
        if self.edition and idle and pages > self.pages and time.monotonic() - self.built >= REBUILD_SECONDS:
            self.process, self.built, self.pages = self._start(self.edition.folder / LOG), time.monotonic(), pages

    def say(self, state: str | Mapping[str, object]) -> None:
        """Put a state on the front page; a sentence is how a run ended."""
        write_state(self.wanted.html, ended_state(state) if isinstance(state, str) else state)

    def end(self) -> None:
        """End a build that goes on: the last one comes after the run."""
        if self.process is not None:
            stop([self.process])

    def _start(self, log: Path) -> subprocess.Popen[bytes]:
        more = [f"--data={self.wanted.data}", f"--out={self.wanted.out}", *self.wanted.as_options]
        with log.open("wb") as file:
            return subprocess.Popen(
                [*COMMAND, "book", "--build-only", "--preset", self.wanted.preset, *more],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.nice(10),  # the run comes first
            )
