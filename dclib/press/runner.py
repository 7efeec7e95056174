"""From a preset to executed pages: stages side by side, each after what it needs, and only those that changed.

Each stage is one notebook with parameters. A page appears under ``runs/<preset>/pages`` whole or not at all, with a
card beside it that says from what it was made. No torch here.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from dclib.config import Preset
from dclib.machine import count_cores
from dclib.presets import runs_folder
from dclib.press.forecast import Forecast, price, show_seconds
from dclib.press.notebooks import check_parameters
from dclib.press.stages import Stage, alone, key_of, plan_with_outlook, stage_parts, urgency
from dclib.press.workers import Ended, Workers, clear, put_page
from dclib.records import lock

MAX_JOBS = 4  # more trainings at once than this compete for memory rather than cores
CELL_TIMEOUT = 7 * 24 * 3600  # seconds; a hung cell ends some day, a long training is not cut short
POLL_SECONDS = 0.05
PATIENCE = 5.0  # seconds that the processes of a killed run, which end by themselves, are waited for
TOLD_SECONDS = 2.0  # between two times that a run says how far it is

Status = Literal["done", "skipped", "failed", "blocked"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a stage."""

    status: Status
    seconds: float = 0.0
    message: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether the page was to be made and was not."""
        return self.status in ("failed", "blocked")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is."""

    settled: Mapping[str, Outcome]  # page -> what became of it
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    seconds_left: float


Watch = Callable[[Progress], None]


def run_preset(
    preset_name: str,
    *,
    data: str = "",
    settings: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    force: bool = False,
    timeout: int = CELL_TIMEOUT,
    watch: Watch | None = None,
) -> dict[str, Outcome]:
    """Execute every stage of a preset that is not up to date; see the module.

    Args:
        preset_name: A preset's name, or the path of a .yaml file.
        data: Folder of the images; empty means the preset's own.
        settings: Preset keys to change, such as ``{"train.epochs": 2}``.
        jobs: Stages at work at once; by default one per core and at most 4. Take 1 where one training
            fills the GPU.
        force: Run up-to-date stages as well.
        timeout: Seconds one cell may take.
        watch: Is told every few seconds how far the run is.

    Returns:
        What became of each page. A failed stage leaves its last good page alone and stops only what needs it.

    Raises:
        ValueError: unknown preset, setting or parameter, missing images, a run of the same preset at work.
        OSError: the runs folder cannot be written.
    """
    preset, stages, outlook = plan_with_outlook(preset_name, data=data, settings=settings)
    for stage in stages:
        check_parameters(stage.notebook, stage.parameters)
    cores = count_cores()
    jobs = min(cores, MAX_JOBS) if jobs is None else jobs
    if jobs < 1 or timeout < 1:
        raise ValueError(f"need jobs >= 1 and timeout >= 1 second; got {jobs} and {timeout}")
    parts = stage_parts(stages, preset)
    keys = {page: key_of(own) for page, own in parts.items()}
    print(f"preset {preset.name}: {len(stages)} pages, up to {jobs} at once on {cores} cores", flush=True)
    for line in outlook.lines:
        _indent(line)
    with lock_workspace(workspace(preset)) as held_alone:
        cards = {stage.page: read_card(workspace(preset), stage.page) for stage in stages}
        stages, expected = price(
            stages, preset, outlook, parts, cards, jobs=jobs, cores=cores, force=force, report=_indent
        )
        return run_stages(
            stages,
            keys,
            workspace(preset),
            parts=parts,
            expected=expected,
            jobs=jobs,
            cores=cores,
            force=force,
            timeout=timeout,
            lock=held_alone,
            watch=watch,
        )


def _indent(line: str) -> None:
    print(f"  {line}", flush=True)


def workspace(preset: Preset) -> Path:
    """The folder of a preset's runs."""
    return runs_folder().resolve() / preset.name


def run_stages(
    stages: Sequence[Stage],
    keys: Mapping[str, str],
    folder: Path,
    *,
    jobs: int,
    cores: int,
    force: bool = False,
    timeout: int = CELL_TIMEOUT,
    lock: int | None = None,
    parts: Mapping[str, Mapping[str, str]] | None = None,
    expected: Mapping[str, float] | None = None,
    watch: Watch | None = None,
) -> dict[str, Outcome]:
    """Execute ``stages`` below ``folder``, at most ``jobs`` at once, the most urgent first.

    ``parts``, what each key is made of, is kept with the page, so that what changed can be named later. ``expected``
    are seconds, for the time that is left; by default the stages' costs. Every child holds the file descriptor
    ``lock``, so that no second run starts while an orphan still trains.
    """
    by_page = {stage.page: stage for stage in stages}
    sorter = TopologicalSorter({stage.page: stage.needs for stage in stages})
    sorter.prepare()
    longest, unaccompanied = urgency(stages), alone(stages)
    forecast = Forecast(stages, expected or {stage.page: stage.cost for stage in stages}, jobs)
    outcomes: dict[str, Outcome] = {}
    ready: list[Stage] = []
    workers = Workers(folder, timeout=timeout, lock=lock)
    told = -TOLD_SECONDS
    try:
        while sorter.is_active():
            ready += [by_page[page] for page in sorter.get_ready()]
            ready.sort(key=lambda stage: -longest[stage.page])
            ended: dict[str, Outcome] = {}
            while ready and len(workers.at_work) < jobs:
                stage = ready.pop(0)
                settled = _settle(stage, keys, folder, outcomes, force)
                if settled:
                    ended[stage.page] = settled
                    continue
                threads = cores if stage.page in unaccompanied else max(1, cores // jobs)
                _say("start", stage.page)
                workers.start(stage, threads)
            for one in workers.ended():
                ended[one.stage.page] = _finish(one, keys, folder, (parts or {}).get(one.stage.page, {}))
            outcomes.update(ended)
            for page, outcome in ended.items():
                sorter.done(page)
                if outcome.status == "done":
                    forecast.learn(page, outcome.seconds)
                left = forecast.seconds_left(outcomes, workers.at_work)
                _announce(page, outcome, len(outcomes), len(stages), left)
            if watch and time.monotonic() - told >= TOLD_SECONDS:
                told = time.monotonic()
                watch(_progress(stages, outcomes, workers.at_work, forecast))
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        workers.stop()
    return outcomes


def _progress(
    stages: Sequence[Stage], outcomes: Mapping[str, Outcome], at_work: Mapping[str, float], forecast: Forecast
) -> Progress:
    waiting = tuple(stage.page for stage in stages if stage.page not in {*outcomes, *at_work})
    left = forecast.seconds_left(outcomes, at_work)
    return Progress(settled=dict(outcomes), running=tuple(at_work), waiting=waiting, seconds_left=left)


def read_card(folder: Path, page: str) -> dict[str, Any] | None:
    """The run card of a page: key, seconds, finished, versions, ...; None where no whole page is there."""
    path = folder / "pages" / f"{page}.json"
    if not (path.is_file() and path.with_suffix(".ipynb").is_file()):
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # a damaged card is no card: the page is made again
    return card if isinstance(card, dict) else None


def _settle(
    stage: Stage, keys: Mapping[str, str], folder: Path, outcomes: Mapping[str, Outcome], force: bool
) -> Outcome | None:
    """The outcome of a stage that need not or cannot run, else None."""
    missing = [page for page in stage.needs if outcomes[page].is_missing]
    if missing:
        return Outcome(status="blocked", message=f"needs {', '.join(missing)}")
    card = read_card(folder, stage.page)
    if card and card.get("key") == keys[stage.page] and not force:
        return Outcome(status="skipped", message="nothing it depends on changed")
    return None


def _finish(ended: Ended, keys: Mapping[str, str], folder: Path, parts: Mapping[str, str]) -> Outcome:
    """Publish the page of a stage that ended well."""
    if ended.error:
        return Outcome(status="failed", seconds=ended.seconds, message=ended.error)
    put_page(ended, folder, key=keys[ended.stage.page], parts=dict(parts))
    clear(folder / "failed", ended.stage.page)
    return Outcome(status="done", seconds=ended.seconds)


@contextlib.contextmanager
def lock_workspace(folder: Path) -> Iterator[int]:
    """Hold the workspace alone; two runs at once would train into the same checkpoints."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OSError(
            f"cannot write to {folder}: {error.strerror}; set DCLIB_RUNS to a folder that can be written"
        ) from None
    try:
        if not _locked(own):
            print(f"{folder} is on a disk without locks: start no second run of this preset meanwhile", flush=True)
        yield own
    except BlockingIOError:
        raise ValueError(
            f"another run of preset {folder.name!r} is at work in {folder}; wait for it, or end it"
        ) from None
    finally:
        os.close(own)


def _locked(descriptor: int) -> bool:
    """As :func:`dclib.records.lock` without waiting, after some tries."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return lock(descriptor, wait=False)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(POLL_SECONDS)


def _announce(page: str, outcome: Outcome, settled: int, total: int, left: float) -> None:
    first, *more = outcome.message.splitlines() or [""]
    ran = outcome.status in ("done", "failed")
    progress = f"[{settled}/{total}" + (f", about {show_seconds(left)} left]" if left >= 1 else "]")
    _say(outcome.status, page, " ".join(filter(None, [show_seconds(outcome.seconds) if ran else "", first, progress])))
    for line in more:
        _say("", "", line)


def _say(status: str, page: str, note: str = "") -> None:
    print(f"{status:8} {page:36} {note}".rstrip(), flush=True)
