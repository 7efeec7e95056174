"""The book from its pages: executed stages and story pages into ``_build/html`` or another folder. No torch here.

It is built beside the book that is there, from copies, and takes its place when it is whole: builds at the same time,
runs that go on and a full disk leave one whole book.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dclib.config import Preset, config_hash
from dclib.counted import counted
from dclib.presets import project_root
from dclib.press.citation import CITE, bibtex
from dclib.press.clusters import clusters_of_book
from dclib.press.downloads import write_downloads, write_measured, write_page_files
from dclib.press.edition import Edition, find_edition
from dclib.press.explorer import Kept, links
from dclib.press.forms import Forms, forms_of
from dclib.press.front import FRONT, front_html
from dclib.press.light import lighten
from dclib.press.linked_data import write_linked_data
from dclib.press.network import PAGE, page_networks, write_scripts
from dclib.press.network_blocks import write_blocks
from dclib.press.part import Part
from dclib.press.progress import edition_html
from dclib.press.runner import read_card, workspace
from dclib.press.search import write_search_texts
from dclib.press.stages import ON_REQUEST, SUMMARIES, Stage, key_of, plan_with_outlook, stage_parts
from dclib.press.status import STAGES, absent_page, missing_page, notices, status_page
from dclib.press.terms import mark_terms
from dclib.records import code_hash, held, replacing_folder, write_atomically
from dclib.report.error_rates import spread_records
from dclib.report.ladder import LADDER, load_ladder
from dclib.report.method_pictures import PICTURES, write_method_pictures
from dclib.report.provenance import DATA_FOLDER, load_records
from dclib.report.published import load_published
from dclib.train.runnable import Outlook

STAMP = ".made-of"  # file in a book that tells one from another
STATUS_PAGE = "_generated/run_status"
BUILDER = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
# a second build over the first would not read unchanged pages again, and so not repeat their warnings
OPTIONS = ("--config", "_config.yml", "--path-output", ".", "-W", "-n", "--keep-going")


class BuildError(Exception):
    """The book did not build; the message says where to look."""


def build_book(
    preset_name: str,
    *,
    data: str = "",
    settings: Mapping[str, Any] | None = None,
    out: str | Path = "",
    again: bool = True,
) -> Path:
    """Build the book from a preset's executed pages, from an empty folder; returns its index.html.

    A page that this machine has not made is that of the published edition, where there is one. Warnings are errors: a
    broken reference or a missing picture stops the build with a message.

    Args:
        out: Where the book goes, and takes the place of one that is there; ``_build/html`` in the project if empty.
        again: Build it even if the one that is there was made of the same.

    Raises:
        ValueError: a page of the table of contents is not there, and the message says what makes it; or something
            else than a book is at ``out``.
        BuildError: Jupyter Book reported a warning or an error, above the message.
        OSError: the book cannot be written there.
    """
    edition = find_edition(preset_name, data)
    without = edition is not None and edition.lacks_images
    preset, stages, outlook = plan_with_outlook(preset_name, data=data, settings=settings, published=without)
    root, folder = project_root().resolve(), workspace(preset)
    toc = asked_toc(root / "book" / "_toc.yml", stages)
    listed = toc_pages(toc)
    html = _checked_place(book_folder(out))
    sources = [*([edition.folder] if edition else []), folder]
    beside = edition.beside if edition else None
    parts = stage_parts(stages, preset)
    stamp = _stamp(root, parts, [*sources, *_other_sources(beside, preset, listed)])
    if not again and (html / STAMP).is_file() and (html / STAMP).read_text(encoding="utf-8") == stamp:
        return html / "index.html"
    with replacing_folder(html) as new:
        work = new.with_name("work")
        _copy_run(sources, work / "run")
        part = _copy_part(beside, work / "beside") if beside else None
        toc = part.in_toc(toc) if part else toc
        if edition is None:
            _check_pages(listed, preset, stages, work / "run", root)  # of these copies the book is made
        _copy_source(root, work, toc)
        clusters = clusters_of_book(preset, workspace(preset), _results_of_same_images(preset, edition))
        _write_pages(preset, stages, parts, outlook, work, listed, edition, part, clusters.kept)
        built = _run_builder(work)
        new.rmdir()
        built.rename(new)
        _write_data(preset, edition, part, new / DATA_FOLDER)
        _write_downloads(preset, stages, work / "run", edition, part, new)
        clusters.write(new, preset.name)
        if PAGE in listed:
            write_scripts(page_networks(preset.name), new)
        _finish_pages(new, toc_pages(toc))
        (new / STAMP).write_text(stamp, encoding="utf-8")
    return html / "index.html"


def _copy_source(root: Path, work: Path, toc: str) -> None:
    """What the project's own pages are built from."""
    left_out = shutil.ignore_patterns(STAGES, "_generated", "_print", "_build")
    shutil.copytree(root / "book", work / "book", ignore=left_out)
    (work / "book" / "_toc.yml").write_text(toc, encoding="utf-8")
    shutil.copyfile(root / "_config.yml", work / "_config.yml")


def _finish_pages(html: Path, pages: Sequence[str]) -> None:
    """Take out what no page needs, and put in what they say of terms, to the search, and to programs."""
    if missing := [page for page in pages if not (html / f"{page}.html").is_file()]:
        raise BuildError(f"Jupyter Book ended well but left out {', '.join(missing)}")
    lighten(html)
    mark_terms(html, pages)
    write_search_texts(html, pages)
    write_linked_data(html, pages)


def _run_builder(work: Path) -> Path:
    """Build the book whose source is in ``work``; returns the folder of its pages."""
    command = [sys.executable, "-c", BUILDER, "build", "book", *OPTIONS]
    if subprocess.run(command, cwd=work, env=_environment(), check=False).returncode != 0:
        raise BuildError("the book was not built without warnings; Jupyter Book names them above")
    built = work / "_build" / "html"
    generated = work / "book" / "_generated"
    for path in (*generated.rglob("*.html"), *generated.glob("*.bib")):  # taken in by pages: kept beside their sources
        kept = built / "_sources" / path.relative_to(work / "book").with_name(f"{path.name}.txt")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
    return built


def book_folder(out: str | Path = "") -> Path:
    """Where a book goes: ``out``, or ``_build/html`` in the project."""
    return Path(out).resolve() if out else project_root().resolve() / "_build" / "html"


def _stamp(root: Path, parts: Mapping[str, Mapping[str, str]], sources: Sequence[Path]) -> str:
    """Hash of all that a book is made of: equal stamps, equal books."""
    read = [root / "_config.yml", root / "CITATION.cff", *sorted((root / "book").rglob("*"))]
    kinds = ("pages", "records", "pictures", PAGE)
    read += [path for folder in sources for kind in kinds for path in sorted((folder / kind).rglob("*"))]
    states = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in read if path.is_file()]
    return config_hash(states, code_hash(), {page: dict(own) for page, own in parts.items()})


def _from_edition(stages: Sequence[Stage], folder: Path) -> list[str]:
    """Pages below ``folder`` that are those of the published edition."""
    return [stage.page for stage in stages if (read_card(folder, stage.page) or {}).get("edition")]


def _checked_place(html: Path) -> Path:
    """ValueError where something else is that a book must not take the place of."""
    is_book = (html / "index.html").is_file() and (html / "searchindex.js").is_file()
    if html.exists() and not is_book and (not html.is_dir() or any(html.iterdir())):
        raise ValueError(f"need a new or empty folder for the book, or one that holds a book; got {html}")
    return html


def _copy_run(sources: Sequence[Path], target: Path) -> None:
    """What a book is made of, at one moment: a run that is going on waits so long with its next page.

    Of a page that several of the ``sources`` have, the last one's.
    """
    hidden = shutil.ignore_patterns(".*")
    (target / "pages").mkdir(parents=True)
    for folder in sources:
        if (folder / "pages").is_dir():
            with held(folder / "pages", shared=True):
                shutil.copytree(folder / "pages", target / "pages", ignore=hidden, dirs_exist_ok=True)
    if (sources[-1] / "records").is_dir():
        folder = sources[-1]
        shutil.copytree(folder / "records", target / "records", ignore=hidden)


def _copy_part(edition: Edition, target: Path) -> Part | None:
    """The pages of another edition that were made, at one moment; None where none was."""
    _copy_run([edition.folder], target)
    part = Part(edition, target)
    return part if part.is_made else None


def _results_of_same_images(preset: Preset, edition: Edition | None) -> Path | None:
    """The published pictures, if they are of the images of this book."""
    return edition.results / "pictures" if edition and edition.preset.data == preset.data else None


def _other_sources(beside: Edition | None, preset: Preset, listed: Sequence[str]) -> list[Path]:
    """Folders of another edition, and the one with the networks that run in a page, if the book has that page."""
    networks = [page_networks(preset.name).folder.parent] if PAGE in listed else []
    return [*([beside.folder, beside.results] if beside else []), *networks]


def _write_data(preset: Preset, edition: Edition | None, part: Part | None, data: Path) -> None:
    """The records behind the pages, as files to download where their links lead; of the rates of the scorecard too."""
    others = [r for r in spread_records() if r.card and r.card.preset != preset.name]
    write_downloads(load_records(counted(preset)), [*(edition.records if edition else []), *others], data)
    write_downloads([], load_ladder(preset), data / LADDER)
    if part:
        write_downloads([], part.edition.records, data / part.name)
        write_downloads([], load_ladder(part.edition.preset), data / part.name / LADDER)


def _write_downloads(
    preset: Preset, stages: Sequence[Stage], run: Path, edition: Edition | None, part: Part | None, html: Path
) -> None:
    """What each page is downloaded with."""
    made = {stage.page: run / "pages" / f"{stage.page}.ipynb" for stage in stages if read_card(run, stage.page)}
    pages = {page: json.loads(path.read_text(encoding="utf-8")) for page, path in made.items()}
    write_page_files(pages, STAGES, html, load_records(counted(preset)), edition.records if edition else [])
    write_measured(pages, html / DATA_FOLDER)
    if part:
        write_page_files(part.notebooks, part.name, html, [], part.edition.records)


def _write_pages(
    preset: Preset,
    stages: Sequence[Stage],
    parts: Mapping[str, Mapping[str, str]],
    outlook: Outlook,
    work: Path,
    listed: Sequence[str],
    edition: Edition | None,
    part: Part | None,
    kept: Sequence[Kept],
) -> None:
    """Put the executed pages, what stands in for others, and the page of what ran into the book's source."""
    folder, book = work / "run", work / "book"
    said = notices(stages, parts, folder)
    for page, link in links(kept).items():
        said[page] = "\n\n".join(filter(None, (said.get(page), link)))
    at_hand = edition is None or not edition.lacks_images
    forms = Forms(preset, stages, outlook, edition.records if edition else [], known=at_hand)
    _copy_pages(stages, folder, book / STAGES, said, forms)
    for page in sorted(set(listed) - {f"{STAGES}/{stage.page}" for stage in stages}):
        if page.startswith(f"{STAGES}/"):
            write_atomically(book / f"{page}.md", absent_page(page, preset, outlook.left_out).encode())
    for stage in stages:
        if read_card(folder, stage.page) is None and f"{STAGES}/{stage.page}" in listed:
            write_atomically(book / STAGES / f"{stage.page}.md", missing_page(stage.page).encode())
    keys = {page: key_of(own) for page, own in parts.items()}
    other = {part.name: part.cards} if part else {}
    every = [*listed, *(f"{part.name}/{page}" for page in part.pages)] if part else listed
    status = status_page(preset, stages, keys, folder, every, other=other)
    write_atomically(book / f"{STATUS_PAGE}.md", status.encode())
    records = load_records(preset)
    published, missing = load_published(preset, records), _from_edition(stages, folder)
    if edition and set(SUMMARIES) & set(missing):  # this run has no result as a whole yet
        records, published = [], edition.records
    whose = edition_html(len(stages), missing, edition.origin if edition else "", part.name if part else "")
    if part:
        part.write(book, forms_of(part.edition).put)
    if PAGE in listed:
        write_blocks(page_networks(preset.name), book / "_generated")
    front = whose + front_html(preset, records, published, folder / "pages", part)
    write_atomically(book / FRONT, front.encode())
    write_atomically(book / CITE, bibtex().encode())
    write_method_pictures(book / PICTURES)


def asked_toc(toc: Path, stages: Sequence[Stage]) -> str:
    """A table of contents with the pages that only some presets have, if this one does.

    Those that a preset asks for stand behind the linear probes, networks of its own behind the ones that are listed.

    Raises:
        ValueError: there is no such file.
    """
    if not toc.is_file():
        raise ValueError(f"need a table of contents at {toc}; it is not there")
    lines = toc.read_text(encoding="utf-8").splitlines(keepends=True)
    listed = set(re.findall(rf"{STAGES}/(\w+)", "".join(lines)))
    trained = [s.page for s in stages if s.page.startswith("pretraining_") and s.page not in listed]
    asked = [stage.page for stage in stages if stage.page in ON_REQUEST]
    for before, pages in (("linear_probes", asked), (r"pretraining_\w+", trained)):
        found = [i for i, line in enumerate(lines) if re.match(rf" *- file: {STAGES}/{before}$", line)]
        for page in reversed(pages if found else ()):
            lines.insert(found[-1] + 1, re.sub(rf"{STAGES}/\w+", f"{STAGES}/{page}", lines[found[-1]]))
    return "".join(lines)


def toc_pages(toc: str | Path) -> list[str]:
    """Every page that a table of contents, a file or its text, lists, the root first, without suffixes.

    Raises:
        ValueError: it lists nothing.
    """
    text = toc.read_text(encoding="utf-8") if isinstance(toc, Path) else toc
    pages = _files_below(yaml.safe_load(text))
    if not pages:
        raise ValueError("the table of contents lists no page: it needs a root and chapters")
    return [page.removesuffix(".md").removesuffix(".ipynb") for page in pages]


def _files_below(node: Any) -> list[str]:
    """Values of ``root`` and ``file`` anywhere in a table of contents, in order."""
    if isinstance(node, list):
        return [page for item in node for page in _files_below(item)]
    if not isinstance(node, dict):
        return []
    here = [str(node[key]) for key in ("root", "file") if key in node]
    return here + [page for value in node.values() for page in _files_below(value)]


def _check_pages(listed: Sequence[str], preset: Preset, stages: Sequence[Stage], folder: Path, root: Path) -> None:
    """Raise ValueError for the first listed page that is not there, saying what makes it."""
    planned = {f"{STAGES}/{stage.page}": stage for stage in stages}
    for page in listed:
        if page in planned:
            stage = planned[page]
            if read_card(folder, stage.page) is None:
                method = f", method {stage.parameters['method']}" if "method" in stage.parameters else ""
                raise ValueError(
                    f"the book lists {page}, which has not run (notebook {stage.notebook.name}{method}); "
                    f"make it with: python -m dclib run --preset {stage.parameters['preset']}"
                )
        elif page.startswith(f"{STAGES}/"):
            if not page.startswith(f"{STAGES}/pretraining_"):
                raise ValueError(f"the book lists {page}, which no stage makes; take it out of book/_toc.yml")
        elif page != STATUS_PAGE and not any(
            (root / "book" / f"{page}{suffix}").is_file() for suffix in (".md", ".ipynb", ".rst")
        ):
            raise ValueError(f"the book lists {page}, and there is no book/{page}.md; write it or unlist it")


def _copy_pages(
    stages: Sequence[Stage], folder: Path, book_stages: Path, said: Mapping[str, str], forms: Forms
) -> None:
    """The pages of this preset as the book's stages, with their forms, and what is to be said at the top of some."""
    book_stages.mkdir(parents=True)
    for stage in stages:
        if read_card(folder, stage.page):
            notebook = json.loads((folder / "pages" / f"{stage.page}.ipynb").read_text(encoding="utf-8"))
            forms.put(notebook, stage.page, STAGES)
            if stage.page in said:
                cell = {"cell_type": "markdown", "id": "stale-notice", "metadata": {}, "source": said[stage.page]}
                notebook["cells"].insert(1, cell)
            write_atomically(book_stages / f"{stage.page}.ipynb", json.dumps(notebook).encode())


def _environment() -> dict[str, str]:
    """This process's environment, with dclib importable for the reference pages of the book."""
    package = str(Path(__file__).resolve().parent.parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
