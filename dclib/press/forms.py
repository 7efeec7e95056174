"""The form at the top of a page: what can be set, the commands that run the page again, and how long that takes here.

It stands in place of the cells of parameters, which go into its fold. ``book/_static/forms.js`` makes the inputs and
writes the commands anew while they are filled in; without scripts the commands of the page as it is are there as text.
No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import Any

from dclib.config import Preset
from dclib.machine import count_cores
from dclib.planner.calibration import kept_machine
from dclib.planner.hardware import Hardware
from dclib.planner.pages import PageCost, page_costs, stage_seconds
from dclib.presets import load_preset, preset_folder, project_root
from dclib.press.downloads import downloads_html
from dclib.press.edition import OF_THESE_IMAGES, Edition
from dclib.press.fields import METHOD, PRESET, SETTINGS, measures, notebook_fields, preset_fields
from dclib.press.forecast import Forecast
from dclib.press.front import took
from dclib.press.launch import Address, address_of, launch_html
from dclib.press.notebooks import read_notebook
from dclib.press.runner import MAX_JOBS
from dclib.press.stages import AFTER, Stage
from dclib.press.titles import default_parameters
from dclib.records import DATA as OF_IMAGES
from dclib.records import Record
from dclib.report.commands import MAKES, make_command, papermill_command
from dclib.report.provenance import duration
from dclib.report.series import plural
from dclib.train.runnable import Outlook

PROGRAM = ".venv/bin/papermill"  # where make puts it; nothing has to be activated
PLAN = ".venv/bin/python -m dclib plan"
PARAMETERS = ("parameters", "injected-parameters")  # tags of the cells that the form stands in place of
TAKEN_OUT, FORM = "remove-cell", "remove-input"  # tags by which a book leaves out a cell, or its code
DATA = "data"  # the parameter that is a folder of images


@dataclass(frozen=True)
class Time:
    """Seconds by the number of seeds, on a straight line."""

    fixed: float
    per_seed: float

    def of(self, seeds: int) -> float:
        return self.fixed + seeds * self.per_seed


@dataclass(frozen=True)
class Forms:
    """The forms of the pages of a preset.

    Args:
        records: What the pages show, if they are published.
        known: Whether the images are at hand, so that it can be said what a run takes.
    """

    preset: Preset
    stages: Sequence[Stage]
    outlook: Outlook
    records: Sequence[Record] = ()
    known: bool = True
    _trained: dict[tuple[tuple[str, ...], int], float] = field(default_factory=dict)

    def put(self, notebook: dict[str, Any], page: str, folder: str) -> None:
        """Put a page's form into its executed notebook, in place, and what it can be downloaded with.

        ``folder`` is that of the page in the book.
        """
        stage = next(stage for stage in self.stages if stage.page == page)
        more = downloads_html(notebook, page, folder) + launch_html(self.preset, stage, self.address)
        tagged = [cell for cell in notebook["cells"] if set(PARAMETERS) & set(cell["metadata"].get("tags", ()))]
        at = notebook["cells"].index(tagged[0]) if tagged else min(1, len(notebook["cells"]))
        raw = "\n".join("".join(cell["source"]).strip() for cell in tagged)
        for cell in tagged:
            cell["metadata"] = {**cell["metadata"], "tags": [*cell["metadata"].get("tags", ()), TAKEN_OUT]}
        notebook["cells"].insert(at, self._cell(stage, raw, more))

    def _cell(self, stage: Stage, raw: str, more: str) -> dict[str, Any]:
        html, text = self.html(stage, raw), "\n\n".join(self.commands(stage))
        output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": html + more, "text/plain": text}}
        tags = {"tags": [FORM]}
        code = {"cell_type": "code", "id": "rerun-form", "metadata": tags, "execution_count": None}
        return {**code, "source": "# the form of this page", "outputs": [output]}

    def commands(self, stage: Stage) -> tuple[str, str]:
        """What runs a page again as it is: by papermill the page alone, by make the whole book."""
        given = dict(stage.parameters)
        defaults = default_parameters(read_notebook(stage.notebook))
        alone = papermill_command(stage.notebook.name, given, defaults=defaults, program=PROGRAM)
        return alone, make_command(given[PRESET], given.get(DATA, ""), given.get(SETTINGS))

    def html(self, stage: Stage, raw: str) -> str:
        """A page's form; ``raw`` is the code of its parameters."""
        alone, whole = self.commands(stage)
        times = self.times(stage)
        said = said_of(times, len(self.preset.seeds)) if times else self._unknown(stage)
        content = json.dumps(self.content(stage, times), ensure_ascii=False).replace("</", "<\\/")
        fold = f'<details class="dclib-fold"><summary>The parameters in the notebook</summary><pre>{escape(raw)}</pre>'
        parts = [
            '<details class="dclib-rerun">',
            "<summary>Run this page again: the command, and how long it takes</summary>",
            '<div class="dclib-rerun-fields"></div>',
            _block("alone", "This page alone, in the project's folder, where make has made .venv:", alone),
            _block("whole", "The whole book with the same preset, images and settings:", whole),
            f'<p class="dclib-time" role="status">{escape(said)}</p>',
            f"{fold}</details>" if raw else "",
            f'<script type="application/json">{content}</script></details>',
        ]
        return "".join(parts)

    def content(self, stage: Stage, times: Mapping[str, Any] | None) -> dict[str, Any]:
        """All that the script needs to make the inputs and the commands."""
        given, notebook = dict(stage.parameters), read_notebook(stage.notebook)
        method = given.get(METHOD, "")
        fields = notebook_fields(notebook, self.preset)
        own = self._own
        settings = preset_fields(own, method if method in own.methods else "")
        written = {one.name: one for one in settings}
        rows = [
            [key, written[key].written(value)]
            for key, value in given.get(SETTINGS, {}).items()
            if key in written and key != "seeds"
        ]
        return {
            "notebook": stage.notebook.name,
            "program": PROGRAM,
            "plan": PLAN,
            "makes": MAKES,
            "fields": [{**one.plain(), "now": one.written(given.get(one.name))} for one in fields],
            "seeds": len(self.preset.seeds),
            "seedsOf": self._seeds | {given[PRESET]: len(own.seeds)},
            "rows": rows,
            "settings": [one.plain() for one in settings],
            "times": times,
        }

    def times(self, stage: Stage) -> dict[str, Any] | None:
        """What the page, the networks it looks at, and the whole book take here; None where nothing tells."""
        if self.machine is None or not self.known:
            return None
        one, two = self._costs
        works = measures(read_notebook(stage.notebook))
        named = [page.removeprefix("pretraining_") for page in stage.needs if page.startswith("pretraining_") and works]
        networks = [name for name in named if self.preset.method(name).trains]
        return {
            "cpu": self.machine.name,
            "jobs": self._jobs,
            "page": _line(one[stage.page].seconds, two[stage.page].seconds),
            "networks": _line(*(self._training(tuple(networks), seeds) for seeds in (1, 2))),
            "book": _line(*(self._book(costs) for costs in (one, two))),
            "reads": not works and stage.needs not in ((), ("data",)) or bool(AFTER.get(stage.page)),
        }

    @cached_property
    def machine(self) -> Hardware | None:
        """This machine as it was measured for a run of these pages; None where it was not."""
        return kept_machine(max(1, count_cores() // self._jobs))

    @cached_property
    def address(self) -> Address | None:
        """Where the project is published."""
        return address_of()

    @property
    def _jobs(self) -> int:
        return min(count_cores(), MAX_JOBS)

    @cached_property
    def _costs(self) -> list[dict[str, PageCost]]:
        """What each page costs with one seed, and with two."""
        assert self.machine is not None
        pages = [stage.page for stage in self.stages]
        given = {"left_out": self.outlook.left_out, "drawers": count_cores()}
        return [page_costs(self._with(seeds), pages, self.machine, self.outlook.counts, **given) for seeds in (1, 2)]  # type: ignore[arg-type]

    def _training(self, networks: tuple[str, ...], seeds: int) -> float:
        """Seconds of the pre-training of some networks, one after the other."""
        assert self.machine is not None
        key = networks, seeds
        if networks and key not in self._trained:
            stages = stage_seconds(self._with(seeds), networks, self.machine, self.outlook.counts)
            self._trained[key] = stages["pretrain"]
        return self._trained.get(key, 0.0)

    def _book(self, costs: Mapping[str, PageCost]) -> float:
        """The whole book from nothing, its pages side by side."""
        priced = [replace(stage, cost=costs[stage.page].seconds) for stage in self.stages]
        return Forecast(priced, {stage.page: stage.cost for stage in priced}, self._jobs).seconds_left()

    def _with(self, seeds: int) -> Preset:
        return replace(self.preset, seeds=tuple(range(seeds)))

    @cached_property
    def _own(self) -> Preset:
        """The preset as its file has it, without the settings of this run."""
        name = str(self.stages[0].parameters[PRESET])
        return load_preset(project_root() / name if name.endswith((".yaml", ".yml")) else name)

    @cached_property
    def _seeds(self) -> dict[str, int]:
        """How many seeds each preset has by itself."""
        return {path.stem: len(load_preset(path.stem).seeds) for path in sorted(preset_folder().glob("*.yaml"))}

    def _unknown(self, stage: Stage) -> str:
        """Of a machine that was not measured: how to, and what the records behind a page took elsewhere."""
        made = OF_THESE_IMAGES.get(stage.page, "pretrain" if METHOD in stage.parameters else "")
        method = stage.parameters.get(METHOD, "")
        shown = {method} if method else {*self.preset.methods, OF_IMAGES}  # else other pages' networks
        behind = [r for r in self.records if r.card and r.card.stage == made and r.card.method in shown]
        elsewhere = f" What is shown here took {took(behind)}." if behind else ""
        why = "it had not been measured" if self.known else "the images were not at hand"
        tells = f"{PLAN} --preset {stage.parameters[PRESET]} {'measures it for some seconds and ' * self.known}tells."
        first = f"How long it takes on this machine is not known, for {why} when this book was built:"
        return f"{first} {'' if self.known else 'once they are, '}{tells}{elsewhere}"


def forms_of(edition: Edition) -> Forms:
    """The forms of a published edition that stands beside another in its book."""
    outlook = Outlook(tuple(edition.preset.methods), {}, (), {})
    known = edition.preset.data.is_drawn
    return Forms(edition.preset, edition.stages, outlook, edition.records, known=known)


def said_of(times: Mapping[str, Any], seeds: int) -> str:
    """What a run takes, in words; the script says the same of other numbers of seeds."""
    page, networks, book = (Time(*times[name]).of(seeds) for name in ("page", "networks", "book"))
    more = f", up to {duration(networks)} more where the networks it looks at are not trained" if networks else ""
    after = " It shows what other pages have measured: run those first." if times["reads"] else ""
    where = f"On {times['cpu']}, where this book was built, with {plural(seeds, 'seed')}"
    whole = f"about {duration(book)} for the whole book from nothing, {times['jobs']} pages at once"
    return f"{where}: about {duration(page)} for this page{more}; {whole}. What is finished is read back.{after}"


def _block(name: str, words: str, command: str) -> str:
    """A command under the words that say what it is of."""
    label = f"rerun-{name}"
    attributes = f'class="dclib-command" data-command="{name}" tabindex="0" role="group" aria-labelledby="{label}"'
    return f'<p id="{label}">{escape(words)}</p><pre {attributes}>{escape(command)}</pre>'


def _line(one: float, two: float) -> list[float]:
    """Of what one seed takes and what two take: what none takes, and what each adds."""
    return [round(2 * one - two, 2), round(two - one, 2)]
