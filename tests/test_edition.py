"""The published edition: pages without measuring, pictures as the world has them, and a book that is always whole."""

import ast
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from screenshots import BROWSERS, open_browser
from synthetic_records import make_card, make_probes
from tiny_images import CLASSES, draw_shape, method_config

from dclib.data.folders import open_folder
from dclib.evaluate import first_layer
from dclib.models.vgg import Trunk
from dclib.pocket.outline import GroupDrawer
from dclib.presets import edition, load_preset, measuring
from dclib.press import edition as published
from dclib.press import site, stages
from dclib.press.edition import find_edition, make_edition
from dclib.press.notebooks import read_notebook
from dclib.press.progress import edition_html, ended_state, running_state, write_state
from dclib.press.runner import Outcome, Progress, read_card
from dclib.press.site import build_book, toc_pages
from dclib.press.stages import EVALUATIONS, SUMMARIES
from dclib.randomness import generator
from dclib.records import replacing_folder, write_records
from dclib.report.provenance import strip
from dclib.report.published import label_of, load_published
from dclib.train.runs import prepare_data

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = 'preset: str = "tiny"  # name\ndata: str = ""  # folder\nsettings: dict = {}  # keys'
METHOD = '\nmethod: str = "random"  # one of the preset\'s'
PAGES = ("data", "pretraining_first", "linear_probes", "scorecard")
# a page says whose it is, and fails if another one left something in its kernel
SAYS = """\
import os
from dclib.presets import edition
assert "left" not in globals()
left = 1
print("of", edition().name if edition() else "this run", os.getpid())"""
TOC = "format: jb-book\nroot: index\nchapters:\n" + "".join(f"  - file: stages/{page}\n" for page in PAGES)

pytestmark = pytest.mark.slow


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS) -> None:
    cells = [new_markdown_cell(f"# {path.stem}"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook = new_notebook(cells=[*cells, *map(new_code_cell, sources)])
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of four tiny pages with published records of two seeds, of which this machine has run nothing."""
    monkeypatch.setattr(stages, "EVALUATIONS", {"linear_probes": EVALUATIONS["linear_probes"]})
    monkeypatch.setattr(stages, "SUMMARIES", {"scorecard": SUMMARIES["scorecard"]})
    monkeypatch.setattr(published, "draw_pocket_world", lambda *_, **__: None)
    for name in ("01_data", "02_pretraining", "03_linear_probes", "12_scorecard"):
        parameters = PARAMETERS + (METHOD if name.startswith("02") else "")
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", SAYS, parameters=parameters)
    (tmp_path / "notebooks" / "presets").mkdir()
    (tmp_path / "notebooks" / "presets" / "tiny.yaml").write_text("methods:\n  first: {method: rotnet}\n")
    for seed in (0, 1):
        records = make_probes({"first": [10.0] * 13}, seeds=(seed,))
        path = tmp_path / "results" / "tiny" / "records" / "pretrain" / f"first-s{seed}.json"
        write_records(path, make_card("first", seed, "pretrain"), [r for r in records if r.card.seed == seed])
    shutil.copytree(ROOT / "book" / "_extra" / "progress", tmp_path / "book" / "_extra" / "progress")
    (tmp_path / "book" / "_toc.yml").write_text(TOC)
    (tmp_path / "book" / "index.md").write_text("# Start\n")
    (tmp_path / "_config.yml").write_text("title: Tiny\n")
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def said(folder: Path, page: str) -> str:
    cells = json.loads((folder / "pages" / f"{page}.ipynb").read_text())["cells"]
    return "".join("".join(o.get("text", "")) for cell in cells for o in cell.get("outputs", []))


# --- what a page of it is


def test_pages_of_one_kernel_know_nothing_of_each_other_and_one_that_fails_stops_no_other(project, monkeypatch):
    monkeypatch.setattr(published, "KERNELS", 1)
    write_notebook(project / "notebooks" / "03_linear_probes.ipynb", "raise ValueError('no')")
    found = find_edition("tiny")
    assert found.preset.seeds == (0, 1)
    failed = make_edition(found, PAGES)
    assert list(failed) == ["linear_probes"]
    assert "ValueError: no" in failed["linear_probes"]
    others = [page for page in PAGES if page != "linear_probes"]
    assert {said(found.folder, page).rsplit(" ", 1)[0] for page in others} == {"of tiny"}
    kernels = [said(found.folder, page).split()[-1] for page in others]
    assert kernels[0] == kernels[1] != kernels[2]  # a new one after the failure
    for page in others:
        card = read_card(found.folder, page)
        assert "published: seeds 0, 1" in card["edition"]
        cells = json.loads((found.folder / "pages" / f"{page}.ipynb").read_text())["cells"]
        assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code", "code"]  # as any page that ran
    assert find_edition("tiny", data="photos") is None
    assert find_edition("other") is None


def test_whatever_a_page_has_measured_returns_at_once(monkeypatch):
    """What notebooks call as statements in cells whose output is hidden is what takes long: all of it is marked."""
    marked = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell for cell in read_notebook(path).cells if cell.cell_type == "code"]
        homes = {}
        for cell in cells:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom):
                    homes |= {alias.name: node.module for alias in node.names}
        for cell in [cell for cell in cells if "hide-output" in cell.metadata.get("tags", [])]:
            calls = [n.value for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Expr)]
            marked |= {(homes[call.func.id], call.func.id) for call in calls if isinstance(call, ast.Call)}
    assert len(marked) == 11
    monkeypatch.setenv("DCLIB_EDITION", "results/pocket")
    for module, name in sorted(marked):
        function = getattr(importlib.import_module(module), name)
        assert function(None, None, None) is None, name


def test_only_an_edition_stops_measuring(monkeypatch):
    assert measuring(lambda x: x + 1)(1) == 2
    monkeypatch.setenv("DCLIB_EDITION", "results/any")
    assert measuring(lambda x: x + 1)(1) is None
    assert edition().parts[-2:] == ("results", "any")


def test_exhibits_of_an_edition_say_whose_they_are(monkeypatch, project):
    records = make_probes({"first": [10.0] * 13}, seeds=(0, 1))
    preset = load_preset("tiny")
    assert label_of(records) == "this run"
    monkeypatch.setenv("DCLIB_EDITION", "results/tiny")
    assert label_of(records) == "2 published seeds"
    assert load_published(preset, []) == []  # they are what the page itself shows
    assert "published: seeds 0, 1, cpu (2 threads), 2026-01-02, code code" in strip(records).text


# --- its pictures


def test_pictures_of_an_outline_are_those_of_the_world(tmp_path, monkeypatch):
    """Every name, label and class, and the bytes of every image, of all sets that a page opens."""
    preset = load_preset("smoke", {"data.pocket_images": 100})
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    drawn = prepare_data(preset)
    monkeypatch.setenv("DCLIB_EDITION", "results/smoke")
    outline = prepare_data(preset)
    assert outline.root != drawn.root
    for name in ("pool", "objects_train", "objects_test", "scenes_train", "scenes_test"):
        ours, theirs = getattr(outline, name), getattr(drawn, name)
        assert (list(ours.ids), ours.classes, ours.labels.tolist()) == (
            list(theirs.ids),
            theirs.classes,
            theirs.labels.tolist(),
        )
        assert [ours.reader.read(i) for i in ours.ids] == [theirs.reader.read(i) for i in theirs.ids]
        assert ours.fingerprint == theirs.fingerprint
    groups = open_folder(outline.root / "VOC2007" / "JPEGImages", whole=True)
    drawer = GroupDrawer(outline.root, 100, preset.data.pocket_seed)
    assert [drawer.read(i) for i in groups.ids] == [
        path.read_bytes() for path in sorted((drawn.root / "VOC2007" / "JPEGImages").iterdir())
    ]
    ours, theirs = outline.clips, drawn.clips
    assert (list(ours.images.ids), ours.names) == (list(theirs.images.ids), theirs.names)
    assert [ours.images.reader.read(i) for i in ours.images.ids] == [
        theirs.images.reader.read(i) for i in theirs.images.ids
    ]
    left_empty = ("pool/", "objects/", "scenes/", "VOC2007/", "clips/", "pocket_world.json")
    for path in drawn.root.rglob("*.*"):
        name = path.relative_to(drawn.root).as_posix()
        if path.is_file() and (not name.startswith(left_empty) or name.endswith(".tsv")):
            assert (outline.root / name).read_bytes() == path.read_bytes(), name


def test_what_a_first_layer_sees_is_published_as_it_was_computed(tmp_path, monkeypatch):
    preset = load_preset("smoke")
    trunk = Trunk(method_config("rotnet").model, generator(0)).eval()
    monkeypatch.setattr(first_layer, "trained_network", lambda *_: trunk)
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    images = [draw_shape(kind, np.random.default_rng(0)) for kind in CLASSES[:2]]
    seen = first_layer.look_at_images(preset, "rotnet", 0, images)
    monkeypatch.setenv("DCLIB_EDITION", str(tmp_path / preset.name))
    read = first_layer.look_at_images(preset, "rotnet", 0, images)
    for ours, theirs in zip(map(asdict, seen), map(asdict, read), strict=True):
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name])
    assert first_layer.look_at_images(preset, "random", 0, images) == []


# --- the book with it

STAND_IN = """
import shutil
from pathlib import Path
html = Path("_build/html")
shutil.copytree("book/_extra", html)
for p in sorted(p for p in Path("book").rglob("*") if p.suffix in (".md", ".ipynb")):
    page = (html / p.relative_to("book")).with_suffix(".html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(p.read_text())
(html / "searchindex.js").touch()
(html / "search.html").write_text('<script src="_static/searchtools.js"></script>')
"""
DRIVER = """
import sys
from dclib.press import book, edition, site, stages
from dclib.__main__ import main
site.BUILDER = {builder!r}
book.COMMAND, book.REBUILD_SECONDS = (sys.executable, __file__), 0.0
edition.draw_pocket_world = lambda *_, **__: None
stages.EVALUATIONS = {{"linear_probes": "03_linear_probes"}}
stages.SUMMARIES = {{"scorecard": "12_scorecard"}}
sys.exit(main(sys.argv[1:]))
"""


def start_book(project: Path, *options: str) -> subprocess.Popen[str]:
    (project / "driver.py").write_text(DRIVER.format(builder=STAND_IN))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(project / "driver.py"), "book", "--preset", "tiny", *options]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def check_whole(project: Path) -> dict[str, str]:
    """Whose each page is; every page of the table of contents is there and whole."""
    html = project / "_build" / "html"
    for page in toc_pages(project / "book" / "_toc.yml"):
        assert (html / f"{page}.html").is_file(), page
    pages = {page: json.loads((html / "stages" / f"{page}.html").read_text()) for page in PAGES}
    assert "dclibProgress" in (html / "progress" / "state.js").read_text()
    return {
        page: "published" if "Published edition" in str(content["cells"][1]) else "own"
        for page, content in pages.items()
    }


def test_without_training_the_book_is_the_published_edition(project, monkeypatch):
    done = start_book(project, "--no-train")
    out = done.communicate(timeout=120)[0]
    assert done.returncode == 0, out
    assert "readable now: " in out
    assert set(check_whole(project).values()) == {"published"}
    assert not (project / "runs" / "tiny" / "pages").exists()
    # a page that this machine has made takes the place of the published one
    own, kept = project / "runs" / "tiny" / "pages", find_edition("tiny").folder / "pages"
    own.mkdir(parents=True)
    for suffix in (".ipynb", ".json"):
        text = (kept / f"data{suffix}").read_text()
        (own / f"data{suffix}").write_text(text.replace("of tiny", "of this run").replace('"edition"', '"was"'))
    monkeypatch.setattr(site, "BUILDER", STAND_IN)
    html = build_book("tiny").parent
    assert check_whole(project) == {page: "own" if page == "data" else "published" for page in PAGES}
    assert "of this run" in (html / "stages" / "data.html").read_text()


def test_killed_at_any_moment_a_whole_book_is_there_and_the_same_command_ends_it(project):
    """Killed outright with its children when it says something: in the edition, and in the run.

    The group is killed at once, so that nothing tidies up behind it.
    """
    seen = []
    for moment in ("the published edition", "start    pretraining_first", ""):
        process = start_book(project)
        for line in process.stdout:
            if moment and moment in line:
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.communicate()
        assert moment == "" or process.returncode == -signal.SIGKILL
        if moment != "the published edition":
            seen.append(check_whole(project))
    assert seen[0]["scorecard"] == seen[0]["pretraining_first"] == "published"
    assert set(seen[-1].values()) == {"own"}
    assert process.returncode == 0
    stamp = (project / "_build" / "html" / site.STAMP).stat().st_mtime_ns
    again = start_book(project)
    again.communicate()
    assert again.returncode == 0
    assert (project / "_build" / "html" / site.STAMP).stat().st_mtime_ns == stamp  # of the same it is not built again


def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path):
    """A reader that never stops looking: 200 times another takes its place."""
    path, stop, gone = tmp_path / "book", threading.Event(), []
    with replacing_folder(path) as new:
        (new / "page").touch()

    def look() -> None:
        while not stop.is_set():
            if not os.access(path / "page", os.R_OK):
                gone.append(time.monotonic())

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(200):
        with replacing_folder(path) as new:
            (new / "page").touch()
    stop.set()
    reader.join()
    assert gone == []
    assert [p.name for p in tmp_path.iterdir()] == ["book"]


# --- how far it is


def test_a_book_of_nothing_but_the_published_edition_says_so_in_words():
    said = edition_html(2, ["data", "voc"], "of others")
    assert "None of 2 pages with results were made on this machine; they are the published edition (of others)" in said


def test_the_front_page_shows_a_run_from_a_file_while_it_goes_on(tmp_path):
    """A headless browser opens the page once; what is written then appears in it without loading the page again."""
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("needs a Chromium or Chrome")
    (tmp_path / "index.html").write_text(f"<!doctype html><body>{edition_html(4, ['data'], 'of others')}</body>")
    shutil.copytree(ROOT / "book" / "_extra" / "progress", tmp_path / "progress")
    done = Outcome(status="done", seconds=3.0)
    states = [
        running_state(Progress(settled={}, running=("data",), waiting=("voc", "colour"), seconds_left=130.0)),
        running_state(Progress(settled={"data": done}, running=("voc",), waiting=("colour",), seconds_left=61.0)),
        ended_state("A run ended with pages missing: voc."),
    ]
    words = [
        "0 of 3 pages done; at work on data; 2 waiting: voc, colour; about 2 min 10 s left",
        "1 of 3 pages done; at work on voc; 1 waiting: colour; about 1 min 1 s left",
        "A run ended with pages missing: voc.",
    ]
    with open_browser() as browser:
        target = browser.call("Target.createTarget", url=(tmp_path / "index.html").as_uri())["targetId"]
        session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for state, expected in zip(states, words, strict=True):
            write_state(tmp_path, state)
            shown, until = "", time.monotonic() + 60
            while expected not in shown and time.monotonic() < until:
                time.sleep(0.2)
                found = browser.call("Runtime.evaluate", session, expression="document.body?.innerText ?? ''")
                shown = found["result"]["value"]
            assert expected in shown
        assert "3 of 4 pages with results were made on this machine" in shown
