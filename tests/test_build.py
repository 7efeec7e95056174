"""The book's assembly: which pages it takes, what it says when one is missing, and that warnings stop it."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import pytest
from failing_disk import each_failure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dclib.press import site
from dclib.press.front import NOTHING
from dclib.press.site import BuildError, build_book, toc_pages
from dclib.press.stages import EVALUATIONS, SUMMARIES
from dclib.records import held

PARAMETERS = 'preset: str = "tiny"\ndata: str = ""\nsettings: dict = {}'
PRESET = "description: For tests.\nmethods:\n  first: {method: rotnet}\n"
PAGES = ("data", "pretraining_first", "linear_probes", "scorecard")
TOC = """\
format: jb-book
root: index
parts:
  - caption: Results
    chapters:
      - file: stages/data
        sections:
          - file: stages/pretraining_first
      - file: stages/linear_probes
      - file: stages/scorecard
      - file: _generated/run_status
"""
INDEX = """\
# Start

See {doc}`stages/data`.

```{raw} html
:file: _generated/front.html
```
"""
CONFIG = """\
title: Tiny
only_build_toc_files: true
execute: {execute_notebooks: "off"}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose stages have run: pages with run cards, a story page, a table of contents."""
    for name in ("01_data", "02_pretraining", *EVALUATIONS.values(), *SUMMARIES.values()):
        cell = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        write(tmp_path / "notebooks" / f"{name}.ipynb", cell)
    (tmp_path / "notebooks" / "presets").mkdir()
    (tmp_path / "notebooks" / "presets" / "tiny.yaml").write_text(PRESET)
    for page in PAGES:
        make_page(tmp_path, page)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text(TOC)
    (tmp_path / "book" / "index.md").write_text(INDEX)
    (tmp_path / "_config.yml").write_text(CONFIG)
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def write(path: Path, *cells) -> None:
    notebook = new_notebook(cells=[new_markdown_cell(f"# Page {path.stem}"), *cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def make_page(project: Path, page: str, says: str = "1 + 1") -> None:
    write(project / "runs" / "tiny" / "pages" / f"{page}.ipynb", new_code_cell(says))
    card = {
        "notebook": "n.ipynb",
        "parameters": {"method": "first"} if "first" in page else {},
        "key": "0123456789ab",
        "seconds": 61.0,
        "finished": "2026-01-02T03:04:05+00:00",
        "threads": 1,
        "versions": {"python": "3.x"},
    }
    (project / "runs" / "tiny" / "pages" / f"{page}.json").write_text(json.dumps(card))


def test_a_book_is_built_with_every_page_and_what_ran(project, capfd):
    stale = project / "book" / "stages" / "pretraining_gone.ipynb"  # of a version that built in place
    stale.parent.mkdir()
    stale.write_text("of another preset")
    killed = project / "_build" / ".html.killed.partial"  # what a build leaves that was killed outright
    killed.mkdir(parents=True)
    (killed / "leftover").write_text("")

    index = build_book("tiny")

    assert index == project / "_build" / "html" / "index.html"
    for page in PAGES:
        assert f"Page {page}" in (index.parent / "stages" / f"{page}.html").read_text()
    assert not (index.parent / "stages" / "pretraining_gone.html").exists()
    assert [path.name for path in (project / "_build").iterdir()] == ["html"]
    status = (index.parent / "_generated" / "run_status.html").read_text().replace("\xa0", " ")
    assert "1 min 1 s" in status
    assert "older than its sources" in status
    assert str(project) not in status
    assert NOTHING in index.read_text()  # no record yet, and the front page says so

    # the same again with a reference to nowhere: -W and -n make it an error
    (project / "book" / "index.md").write_text("# Start\n\nSee {ref}`nowhere`.\n")
    with pytest.raises(BuildError, match="not built without warnings"):
        build_book("tiny")
    assert "nowhere" in capfd.readouterr().err
    assert f"Page {PAGES[0]}" in (index.parent / "stages" / f"{PAGES[0]}.html").read_text()  # the last good one
    assert [path.name for path in (project / "_build").iterdir()] == ["html"]


def stand_in_builder(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Something quicker than Jupyter Book: each page's text is its source."""
    pages = "sorted(p for p in Path('book').rglob('*') if p.suffix in ('.md', '.ipynb'))"
    write = "(html / p.relative_to('book')).with_suffix('.html')"
    code = f"""
import time
from pathlib import Path
html = Path("_build/html")
for p in {pages}:
    {write}.parent.mkdir(parents=True, exist_ok=True)
    {write}.write_text(p.read_text())
(html / "searchindex.js").touch()
(html / "search.html").write_text('<script src="_static/searchtools.js"></script>')
{command}
"""
    monkeypatch.setattr(site, "BUILDER", code)


def book_at(folder: Path) -> dict[str, str]:
    return {page: (folder / "stages" / f"{page}.html").read_text() for page in PAGES}


def test_two_builds_at_once_and_a_run_that_goes_on_leave_one_whole_book(project, monkeypatch):
    """Each build is of one moment: all pages that it shows are of one round of the run."""
    stand_in_builder(monkeypatch, "time.sleep(0.05)")
    pages = project / "runs" / "tiny" / "pages"
    rounds = {page: (pages / f"{page}.ipynb").read_text() for page in PAGES}
    built, stop = [], threading.Event()

    def run() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            with held(pages):
                for page, text in rounds.items():
                    (pages / f"{page}.ipynb").write_text(text.replace(f"Page {page}", f"Round {number}"))

    def build() -> None:
        for _ in range(6):
            build_book("tiny")
            built.append(1)

    at_work = [threading.Thread(target=task) for task in (build, build, run)]
    for thread in at_work:
        thread.start()
    for thread in at_work[:2]:
        thread.join()
    stop.set()
    at_work[2].join()
    assert len(built) == 12
    shown = {re.search(r"Round \d+", text)[0] for text in book_at(project / "_build" / "html").values()}
    assert len(shown) == 1
    assert [path.name for path in (project / "_build").iterdir()] == ["html"]


RUN = """
import itertools, sys, time
from pathlib import Path
from types import SimpleNamespace as Of
from dclib.press import runner, workers

folder, stuck, pages = Path(sys.argv[1]), sys.argv[2] == "stuck", sys.argv[3:]
texts = {page: (folder / "pages" / f"{page}.ipynb").read_text() for page in pages}
(folder / "work").mkdir()

def wait(path, content):
    print("stuck", flush=True)
    time.sleep(600)

for number in itertools.count():
    for page in pages:
        text = texts[page].replace(f"Page {page}", f"Round {number}")
        (folder / "work" / f"{page}.ipynb").write_text(text)
        stage = Of(page=page, notebook=Path("n.ipynb"), parameters={})
        ended = workers.Ended(stage=stage, seconds=1.0, threads=1)
        if stuck and number == 1 and page == pages[1]:
            workers.write_atomically = wait
        runner._finish(ended, {page: f"round-{number}"}, folder, {})
    print(number, flush=True)
"""


def start_run(project: Path, how: str) -> subprocess.Popen[str]:
    """A run that finishes pages without end, or is stuck between a page and its card, in its second round."""
    command = [sys.executable, "-c", RUN, str(project / "runs" / "tiny"), how, *PAGES]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_run_that_is_killed_while_a_build_reads_leaves_one_whole_book(project, monkeypatch):
    """Each page of the book is as whole as its card says, of which the key names the round."""
    stand_in_builder(monkeypatch, "")
    copy_tree = shutil.copytree
    with start_run(project, "on") as run:
        assert run.stdout.readline() == "0\n"

        def copy_and_kill(source: str, target: str) -> str:
            shutil.copy2(source, target)
            time.sleep(0.05)  # in which a run that does not wait goes on
            run.kill()
            return target

        def copy(source: Path, target: Path, **options: Any) -> Path:
            return copy_tree(source, target, **options, **({"copy_function": copy_and_kill} if reads(source) else {}))

        def reads(source: Path) -> bool:
            return source == project / "runs" / "tiny" / "pages"

        monkeypatch.setattr(shutil, "copytree", copy)
        build_book("tiny")
    assert run.returncode == -signal.SIGKILL
    html = project / "_build" / "html"
    status = (html / "_generated" / "run_status.html").read_text()
    rounds = {page: re.search(r"Round (\d+)", text)[1] for page, text in book_at(html).items()}
    assert {page: re.search(rf"/{page}\).*`round-(\d+)`", status)[1] for page in PAGES} == rounds
    assert [path.name for path in (project / "_build").iterdir()] == ["html"]


def test_a_run_that_is_killed_between_a_page_and_its_card_keeps_no_build_waiting(project, monkeypatch):
    """And the book that is there stays, for that page is none."""
    stand_in_builder(monkeypatch, "")
    build_book("tiny")
    before = book_at(project / "_build" / "html")
    with start_run(project, "stuck") as run:
        assert [run.stdout.readline() for _ in range(2)] == ["0\n", "stuck\n"]
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(build_book, "tiny")
            with pytest.raises(TimeoutError):
                building.result(0.5)
            run.kill()
            with pytest.raises(ValueError, match=f"lists stages/{PAGES[1]}, which has not run"):
                building.result(60)
    assert book_at(project / "_build" / "html") == before
    assert [path.name for path in (project / "_build").iterdir()] == ["html"]


def test_a_disk_that_fails_at_any_write_of_a_build_leaves_the_last_book(project, monkeypatch):
    stand_in_builder(monkeypatch, "")
    build_book("tiny")
    before = book_at(project / "_build" / "html")
    for page in PAGES:
        make_page(project, page, says="2 + 2")
    failures = 0
    for error in each_failure(lambda: build_book("tiny"), project / "_build"):
        failures += 1
        assert re.match(r"could not (write|make)[^\n]*No space left on device[^\n]*$", str(error)), error
        assert book_at(project / "_build" / "html") == before
    assert failures > 10
    assert "2 + 2" in book_at(project / "_build" / "html")[PAGES[0]]
    assert [path.name for path in (project / "_build").iterdir()] == ["html"]


def test_a_book_goes_where_it_is_told_and_nowhere_else(project, monkeypatch, tmp_path_factory):
    stand_in_builder(monkeypatch, "")
    was = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    out = tmp_path_factory.mktemp("elsewhere") / "my book"
    assert build_book("tiny", out=out) == out / "index.html"
    assert build_book("tiny", out=out) == out / "index.html"  # a book takes the place of a book
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == was
    photos = out.with_name("photos")
    photos.mkdir()
    (photos / "1.jpg").touch()
    with pytest.raises(ValueError, match="or one that holds a book; got .*photos"):
        build_book("tiny", out=photos)
    assert (photos / "1.jpg").exists()


def test_a_book_that_cannot_be_put_into_a_read_only_checkout_says_once_where_else(project, monkeypatch):
    failure = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(Path, "mkdir", mock.Mock(side_effect=failure))
    with pytest.raises(OSError, match=r"could not make the folder .*_build: Permission denied; [^;]*by --out[^;]*\)$"):
        build_book("tiny")


def test_a_page_that_has_not_run_is_named_with_the_command_that_makes_it(project):
    (project / "runs" / "tiny" / "pages" / "pretraining_first.json").unlink()
    match = r"pretraining_first, which has not run \(notebook 02_pretraining.ipynb, method first\); .* --preset tiny"
    with pytest.raises(ValueError, match=match):
        build_book("tiny")
    assert not (project / "book" / "stages").exists()


def test_a_page_that_no_stage_makes_is_named(project):
    (project / "book" / "_toc.yml").write_text(TOC.replace("stages/data", "stages/date"))
    with pytest.raises(ValueError, match="lists stages/date, which no stage makes"):
        build_book("tiny")


def test_a_method_that_the_preset_does_not_have_gets_a_page_that_says_so(project):
    (project / "book" / "_toc.yml").write_text(TOC.replace("pretraining_first", "pretraining_last"))
    index = build_book("tiny")
    page = (index.parent / "stages" / "pretraining_last.html").read_text()
    assert "has no method of that name" in page


def test_a_story_page_that_is_missing_is_named(project):
    (project / "book" / "_toc.yml").write_text(TOC + "  - caption: More\n    chapters: [{file: story}]\n")
    with pytest.raises(ValueError, match=r"lists story, and there is no book/story.md"):
        build_book("tiny")


def test_a_table_of_contents_is_read_in_order(project):
    expected = ["index", *(f"stages/{page}" for page in PAGES), "_generated/run_status"]
    assert toc_pages(project / "book" / "_toc.yml") == expected


def test_an_empty_table_of_contents_is_an_error(tmp_path):
    (tmp_path / "_toc.yml").write_text("format: jb-book\n")
    with pytest.raises(ValueError, match="lists no page"):
        toc_pages(tmp_path / "_toc.yml")
