"""Which notebooks a preset needs, in which order, and what each depends on. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from dclib.config import Preset, config_hash
from dclib.counted import compared
from dclib.data.decoding import IMAGE_SUFFIXES
from dclib.data.folders import files_below, read_rows
from dclib.data.layouts import LIST_SUFFIXES
from dclib.data.public_sets import check_images
from dclib.data.zip_index import FOLDER as INDEX_FOLDER
from dclib.presets import data_root, load_preset, project_root
from dclib.press.notebooks import code_of, modules_used, read_notebook, source_of
from dclib.records import PROTOCOL, code_hash
from dclib.report.counts import has_published
from dclib.report.ladder import ladder_folder
from dclib.report.published import BESIDE
from dclib.train.runnable import Outlook, look_ahead

EVALUATIONS: Mapping[str, str] = {
    "linear_probes": "03_linear_probes",
    "finetuning": "04_finetuning",
    "retrieval": "05_retrieval",
    "voc": "06_voc",
    "hashtags": "07_hashtags",
    "colour": "08_colour",
    "sobel": "09_sobel",
    "recipes": "10_recipes",
    "metadata": "11_metadata",
    "planner": "13_planner",
    "scaling": "14_scaling",
    "judging": "20_judging_without_labels",
    "exercises_idea": "22_exercises_idea",
    "exercises_pretraining": "23_exercises_pretraining",
    "exercises_features": "24_exercises_features",
    "exercises_clusters": "25_exercises_clusters",
    "exercises_verdicts": "26_exercises_verdicts",
    "exercises_own": "27_exercises_own",
}  # page -> notebook; each looks at the trained networks
# those that a preset has to ask for, or to have tried
ON_REQUEST: Mapping[str, str] = {
    "few_labels": "16_few_labels",
    "data_and_clusters": "18_data_and_clusters",
    "ladder": "17_ladder",
}
AFTER: Mapping[str, Sequence[str]] = {  # whose measurements it takes
    "data_and_clusters": ("linear_probes", "voc"),
    "exercises_features": ("linear_probes",),
    "exercises_verdicts": ("linear_probes", "finetuning", "retrieval", "voc", "hashtags", "colour", "metadata"),
}
SUMMARIES: Mapping[str, str] = {
    "what_came_after": "19_what_came_after",
    "scorecard": "12_scorecard",
    "performance": "15_performance",
}  # of all other pages
ALONE = ("21_own_photographs",)  # notebooks that are run by themselves, and make no page
SET_NAMES = (
    "pool",
    "objects_train",
    "objects_test",
    "scenes_train",
    "scenes_test",
    "voc",
    "oxford",
    "paris",
    "clips",
    "metadata",
)
# those that read what was measured of machines, or of judging: page -> its folder below results/
MEASURED: Mapping[str, str] = {**dict.fromkeys(("planner", "scaling", "performance"), "benchmarks"), "judging": "judge"}
# what a page calls that shows published records of its preset, or the protocol that they were made under
READS_PUBLISHED = ("load_published", "findings", "load_ladder", "records_to_ask")
READS_BESIDE = "load_beside"  # and those of the other edition in its book
ABOUT_IMAGES = (
    "hashtags",
    "recipes",
    "scaling",
    "ladder",
    "judging",
    "exercises_idea",
    "exercises_pretraining",
    "exercises_clusters",
    "exercises_own",
)  # those that need no trained network of the preset


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One notebook with its parameters, and the page it becomes."""

    page: str  # name of the page, unique in a run
    notebook: Path
    parameters: Mapping[str, Any]
    needs: tuple[str, ...] = ()  # pages that must be there first
    cost: float = 1.0  # expected seconds, the longest chain of them first


def plan_stages(
    preset_name: str, *, data: str = "", settings: Mapping[str, Any] | None = None, published: bool = False
) -> tuple[Preset, list[Stage]]:
    """The preset, and the stages that make its pages; see :func:`plan_with_outlook`."""
    preset, stages, _ = plan_with_outlook(preset_name, data=data, settings=settings, published=published)
    return preset, stages


def plan_with_outlook(
    preset_name: str, *, data: str = "", settings: Mapping[str, Any] | None = None, published: bool = False
) -> tuple[Preset, list[Stage], Outlook]:
    """The preset, the stages that make its pages, and what its images are not enough for.

    A method that cannot be trained on these images has no stage; any other page that has nothing to show is made,
    quickly, and says why. Pages of ``published`` results need no images: none are looked at.

    Raises:
        ValueError: unknown preset or setting, missing images, methods that start from each other in a circle.
    """
    _check_name(data)
    parameters = {
        "preset": _from_root(preset_name, is_file=True),
        "data": _from_root(data),
        "settings": dict(settings or {}),
    }
    preset = load_preset(preset_name, {**({"data.root": parameters["data"]} if data else {}), **(settings or {})})
    if published:
        outlook = Outlook(tuple(preset.methods), {}, (), {})
    else:
        check_images(preset)
        outlook = look_ahead(preset)
    methods = {name: preset.method(name) for name in outlook.methods}
    pages = {name: f"pretraining_{name}" for name in methods}
    stages = [Stage(page="data", notebook=_notebook("01_data"), parameters=parameters)]
    for name, config in methods.items():
        stages.append(
            Stage(
                page=pages[name],
                notebook=_notebook("02_pretraining"),
                parameters={**parameters, "method": name},
                needs=("data", pages[config.init]) if config.init else ("data",),
            )
        )
    everything = ("data", *pages.values())
    evaluations = evaluations_of(preset)
    for page, name in evaluations.items():
        stages.append(
            Stage(
                page=page,
                notebook=_notebook(name),
                parameters=parameters,
                needs=("data",) if page in ABOUT_IMAGES else (*everything, *AFTER.get(page, ())),
            )
        )
    stages += [
        Stage(page=page, notebook=_notebook(name), parameters=parameters, needs=tuple(evaluations))
        for page, name in SUMMARIES.items()
    ]
    in_order(stages)
    return preset, stages, outlook


def evaluations_of(preset: Preset) -> dict[str, str]:
    """The pages that look at the trained networks of a preset, those it asks for included: page -> notebook."""
    asked = {
        "few_labels": bool(preset.low_shot.shares),
        "data_and_clusters": bool(compared(preset)) or has_published(preset),
        "ladder": ladder_folder(preset).is_dir(),
    }
    return {**EVALUATIONS, **{page: notebook for page, notebook in ON_REQUEST.items() if asked[page]}}


def key_of(parts: Mapping[str, str]) -> str:
    """The key of a page that depends on these parts."""
    return config_hash(dict(parts))


def changed_parts(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of what a page depends on that is not as it was when the page was made."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def stage_parts(stages: Sequence[Stage], preset: Preset) -> dict[str, dict[str, str]]:
    """For each page, what it depends on by name, and a hash of each: equal parts, equal pages.

    That is its notebook, its parameters, the preset with its settings, every module of dclib that the notebook
    imports, the images, and what the pages it needs leave behind. Those leave runs and records: how they are shown
    does not count, so that a change of a figure makes anew the pages with that figure and no other.
    """
    images, results = _images_stamp(preset), project_root() / "results"
    # most pages show published records beside those of the run; some read what was measured of other things
    beside = BESIDE.get(preset.name, "")
    stamps = {folder: folder_stamp(results / folder) for folder in (preset.name, *MEASURED.values(), beside) if folder}
    found: dict[str, dict[str, str]] = {}
    left: dict[str, str] = {}
    for stage in in_order(stages):
        notebook = read_notebook(stage.notebook)
        try:
            modules = modules_used(code_of(notebook))
        except SyntaxError as error:
            raise ValueError(
                f"the code cells of {stage.notebook.name} are not Python: {error.msg}: {error.text}"
            ) from None
        made = {
            "preset": config_hash(preset),
            "parameters": config_hash(stage.parameters),
            "images": images,
            **{f"dclib/{module}": code_hash(module) for module in modules if not module.startswith("report/")},
            **{f"page {page}": left[page] for page in stage.needs},
        }
        code = code_of(notebook)
        left[stage.page] = config_hash(made, code)
        read = (
            MEASURED[stage.page]
            if stage.page in MEASURED
            else preset.name
            if any(name in code for name in READS_PUBLISHED)
            else ""
        )
        # a page's title is filled in by the runner: its code counts although the notebook does not import it
        shown = {*(module for module in modules if module.startswith("report/")), "press/titles"}
        found[stage.page] = {
            **made,
            stage.notebook.name: config_hash(source_of(notebook)),
            **{f"dclib/{module}": code_hash(module) for module in sorted(shown)},
            **({"published records": stamps[read]} if read else {}),
            **({f"records of {beside}": stamps[beside]} if beside and READS_BESIDE in code else {}),
        }
    return found


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, each after those it needs."""
    by_page = {stage.page: stage for stage in stages}
    try:
        order = list(TopologicalSorter({stage.page: stage.needs for stage in stages}).static_order())
    except CycleError as error:
        circle = " -> ".join(page.removeprefix("pretraining_") for page in error.args[1])
        raise ValueError(f"methods start from each other in a circle: {circle}; let one have no init") from None
    return [by_page[page] for page in order]


def urgency(stages: Sequence[Stage]) -> dict[str, float]:
    """Cost of the longest chain of stages that begins with each: its head started late ends the run late."""
    chains: dict[str, float] = {}
    for stage in reversed(in_order(stages)):
        after = [chains[other.page] for other in stages if stage.page in other.needs]
        chains[stage.page] = stage.cost + max(after, default=0.0)
    return chains


def alone(stages: Sequence[Stage]) -> set[str]:
    """Pages of stages that can run beside no other, and so have all cores.

    From the plan rather than from what happens to run, so that a number never depends on what was skipped.
    """
    before: dict[str, set[str]] = {}
    for stage in in_order(stages):
        before[stage.page] = set(stage.needs).union(*(before[page] for page in stage.needs))
    return {a for a in before if all(a == b or a in before[b] or b in before[a] for b in before)}


def _check_name(data: str) -> None:
    if data != data.encode("utf-8", "replace").decode():
        shown = data.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise ValueError(f"need a folder of images whose path is in UTF-8, since pages name it; got {shown}: rename it")


def _images_stamp(preset: Preset) -> str:
    """Hash that changes when a file that the loaders may read is added, removed or written to; none is opened.

    Links are followed as the loaders do, and places that the preset names outside its folder are looked at too.
    """
    if not preset.data.root:
        return ""  # the pocket world follows from the preset and the code
    data, root = preset.data, data_root(preset.data)
    named = [choice.strip() for name in SET_NAMES for choice in getattr(data, name).split("|") if choice.strip()]
    outside = [place for place in map(root.joinpath, named) if not place.is_relative_to(root) or ".." in place.parts]
    stamp = []
    for place in [root, *outside]:
        below = [place / path for path in sorted(files_below(place))] if place.is_dir() else [place]
        for path in [*below, *_listed_outside(below)]:
            if INDEX_FOLDER not in path.parts:  # opening the images makes it
                stamp.append((os.fsencode(path).decode("latin-1"), *_state(path)))
    return config_hash(stamp)


def _listed_outside(files: Sequence[Path]) -> Iterator[Path]:
    """Images that lists among some files name elsewhere."""
    for path in files:
        if path.suffix.lower() in LIST_SUFFIXES:
            with suppress(ValueError):  # it is no list, which its loader says if it has one
                for name, _ in read_rows(path):
                    if name.startswith(("/", "../")) and name.lower().endswith(IMAGE_SUFFIXES):
                        yield path.parent / name


def _state(path: Path) -> tuple[int, int]:
    """Time in ns and size of a file, of what a link leads to; -1 where there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_mtime_ns, status.st_size


def folder_stamp(folder: Path) -> str:
    """Hash of the records below a folder and of their protocol; content, so that a fresh clone has the same."""
    files = sorted([*folder.rglob("*.json"), *folder.glob(PROTOCOL)])
    return config_hash([(str(path.relative_to(folder)), path.read_text(encoding="utf-8")) for path in files])


def _notebook(name: str) -> Path:
    return project_root() / "notebooks" / f"{name}.ipynb"


def _from_root(value: str, *, is_file: bool = False) -> str:
    """A relative path as seen from the project's root, where notebooks run; a preset's plain name as it is."""
    if not value or (is_file and not value.endswith((".yaml", ".yml"))) or Path(value).is_absolute():
        return value
    return os.path.relpath(value, project_root())
