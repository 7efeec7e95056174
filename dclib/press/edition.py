"""The published edition: the pages of a book made from the results that come with the project, without training.

Its pages are executed with DCLIB_EDITION naming the folder of these results, below ``runs/<preset>/published``, and
stand in the book until this machine has made its own. No torch here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dclib.config import Preset
from dclib.machine import count_cores
from dclib.presets import project_root
from dclib.press.forecast import show_seconds
from dclib.press.runner import CELL_TIMEOUT, POLL_SECONDS, lock_workspace, read_card, workspace
from dclib.press.stages import Stage, folder_stamp, key_of, plan_stages, stage_parts
from dclib.press.workers import Workers, put_page
from dclib.records import DATA, Record, read_records
from dclib.report.protocol import protocol_words
from dclib.report.provenance import origin
from dclib.report.published import BESIDE
from dclib.report.replayed import replay_sentence
from dclib.report.series import cards_of, listed
from dclib.train.absent import lacks_images
from dclib.train.runnable import draw_pocket_world

PUBLISHED = "published"  # folder of the edition below a preset's runs
# page of an edition beside another -> stage whose records it shows; pages that are the same for both are not among them
OF_THESE_IMAGES = {
    "linear_probes": "linear_probe",
    "few_labels": "low_shot",
    "finetuning": "finetune",
    "retrieval": "retrieval",
    "voc": "voc",
    "hashtags": "hashtags",
    "colour": "colour",
    "metadata": "metadata",
}
KERNELS = 2  # more of them compete for memory, and each pays for its imports


@dataclass(frozen=True)
class Edition:
    """Published results of a preset, and the stages that make their pages."""

    results: Path
    preset: Preset  # with the seeds of the results
    stages: Sequence[Stage]
    folder: Path  # of its pages

    @property
    def name(self) -> str:
        """Of the edition: that of its folder of results, and of its preset."""
        return self.results.name

    @property
    def lacks_images(self) -> bool:
        """Whether the images that it was made from are not on this machine."""
        return lacks_images(self.preset.data)

    @property
    def made(self) -> str:
        """Under which protocol it was made, and whether the code still gives its numbers; empty where nothing tells."""
        return " ".join(filter(None, (protocol_words(self.name, self.records), replay_sentence(self.results))))

    @cached_property
    def beside(self) -> Edition | None:
        """The edition of other images that stands in the same book, where there is one."""
        return find_edition(BESIDE[self.name]) if self.name in BESIDE else None

    @cached_property
    def own_pages(self) -> list[str]:
        """Its pages in the book of another edition: those about its images that it has records for, in order."""
        measured = {(r.card.stage, r.card.method) for r in self.records if r.card}
        stages = {stage for stage, _ in measured}
        trained = [f"pretraining_{name}" for name in self.preset.methods if ("pretrain", name) in measured]
        shown = [page for page, stage in OF_THESE_IMAGES.items() if stage in stages]
        wanted = ["data", *trained, *shown, "ladder"]
        return [page for page in wanted if page in {stage.page for stage in self.stages}]

    @cached_property
    def records(self) -> list[Record]:
        """All that is published."""
        return read_records(self.results / "records")

    @cached_property
    def origin(self) -> str:
        """Whose numbers these are, in words."""
        cards = [card for card in cards_of(self.records) if card.stage == "pretrain"]
        commits = listed(dict.fromkeys(card.commit for card in cards if card.commit))
        return origin(cards, published=True) + (f", commit {commits}" if commits else "")

    @cached_property
    def parts(self) -> dict[str, dict[str, str]]:
        """For each page, what it depends on by name, and a hash of each."""
        return {
            page: {**parts, "results": self._stamp} for page, parts in stage_parts(self.stages, self.preset).items()
        }

    @cached_property
    def _stamp(self) -> str:
        return folder_stamp(self.results)


def find_edition(preset_name: str, data: str = "") -> Edition | None:
    """The published edition of a preset; None where nothing of it is published, or its images are others."""
    results = project_root() / "results" / Path(preset_name).name
    if data or not (results / "records").is_dir():
        return None
    seeds = sorted({r.card.seed for r in read_records(results / "records") if r.card and r.card.method != DATA})
    preset, stages = plan_stages(preset_name, settings={"seeds": seeds}, published=True)
    return Edition(results, preset, stages, workspace(preset) / PUBLISHED)


def make_edition(edition: Edition, needed: Sequence[str]) -> dict[str, str]:
    """Execute those of the ``needed`` pages that are not up to date; returns why pages failed, by their names.

    Raises:
        ValueError: a run of the preset is at work.
        OSError: the runs folder cannot be written.
    """
    keys = {page: key_of(parts) for page, parts in edition.parts.items()}
    cards = {page: read_card(edition.folder, page) for page in needed}
    wanted = [stage for stage in edition.stages if stage.page in cards]
    wanted = [stage for stage in wanted if (cards[stage.page] or {}).get("key") != keys[stage.page]]
    if not wanted:
        return {}
    started = time.monotonic()
    with lock_workspace(workspace(edition.preset)) as lock:
        print(f"the published edition of {edition.name}: {len(wanted)} pages ({edition.origin})", flush=True)
        failed = _execute(edition, wanted, keys, lock)
    print(f"  made in {show_seconds(time.monotonic() - started)}", flush=True)
    return failed


def _execute(edition: Edition, wanted: Sequence[Stage], keys: Mapping[str, str], lock: int | None) -> dict[str, str]:
    """Run the stages side by side, whatever they need: nothing is trained."""
    kernels = min(KERNELS, count_cores(), len(wanted))
    named = {"DCLIB_EDITION": str(edition.results.relative_to(project_root()))}
    workers = Workers(edition.folder, timeout=CELL_TIMEOUT, lock=lock, environment=named)
    waiting, failed = list(wanted), dict[str, str]()

    def start_more() -> None:
        while waiting and len(workers.at_work) < kernels:
            workers.start(waiting.pop(0), max(1, count_cores() // kernels))

    try:
        start_more()
        if edition.preset.data.is_drawn:  # while the kernels start; a page that needs pictures waits for them
            draw_pocket_world(edition.preset, outline=True)
        while workers.at_work:
            for ended in workers.ended():
                page = ended.stage.page
                if ended.error:
                    failed[page] = ended.error
                else:
                    put_page(ended, edition.folder, key=keys[page], parts=edition.parts[page], edition=edition.origin)
            start_more()
            time.sleep(POLL_SECONDS)
    finally:
        workers.stop()
    return failed
