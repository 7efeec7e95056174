"""Buttons that open a page elsewhere: none without an address, none where a page does not run, and what it needs."""

import ast
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from dclib.planner.hardware import hardware_named
from dclib.planner.plan import make_plan
from dclib.press import launch
from dclib.press.launch import FETCHES, Address, address_of, hosts_of, launch_html, need_of, prepare
from dclib.press.notebooks import read_notebook, source_of
from dclib.press.stages import plan_stages

ROOT = Path(__file__).resolve().parent.parent
HERE = Address("https://github.com/someone/a-book", "main")


def stage_of(page, preset="pocket", **settings):
    chosen, stages = plan_stages(preset, settings=settings, published=True)
    return chosen, next(stage for stage in stages if stage.page == page)


def names(page, preset="pocket", address=HERE, **settings):
    return [host.name for host in hosts_of(*stage_of(page, preset, **settings), address)]


# the address


def write(folder, config="", cited=""):
    (folder / "_config.yml").write_text(yaml.safe_dump({"title": "A", **({"repository": config} if config else {})}))
    (folder / "CITATION.cff").write_text(
        yaml.safe_dump({"title": "A", **({"repository-code": cited} if cited else {})})
    )
    return folder


def test_the_address_is_the_one_that_the_project_gives(tmp_path):
    assert address_of(write(tmp_path)) is None
    assert address_of(tmp_path / "nowhere") is None
    assert address_of(write(tmp_path, cited=HERE.url)) == HERE
    assert address_of(write(tmp_path, {"url": HERE.url + "/", "branch": "dev"}, HERE.url)).branch == "dev"
    assert address_of(write(tmp_path, {"url": HERE.url + ".git"})).name == "someone/a-book"
    assert address_of(write(tmp_path, {"url": "https://example.org/a/b"})) is None  # nobody opens notebooks from there
    with pytest.raises(ValueError, match=r"need one address.*someone/a-book and .*other"):
        address_of(write(tmp_path, {"url": HERE.url}, "https://github.com/other/b"))


def test_without_an_address_no_page_has_a_button_and_with_one_those_that_run_there():
    pages = ("retrieval", "pretraining_swav", "recipes", "scorecard")
    for page in pages:
        preset, stage = stage_of(page)
        assert launch_html(preset, stage, None) == ""
        shown = BeautifulSoup(launch_html(preset, stage, HERE), "html.parser")
        links = shown.find_all("a")
        assert need_of(preset, stage).words in shown.text
        assert "write preset = 'pocket'" + " and method = 'swav'" * (page == "pretraining_swav") in shown.text
        assert [a.get_text() for a in links] == ["Open in Binder"]
        place = urlsplit(links[0]["href"])
        assert place.netloc == "mybinder.org"
        assert place.path == "/v2/gh/someone/a-book/main"
        assert (ROOT / place.query.removeprefix("urlpath=lab/tree/")).is_file()


def test_this_project_gives_its_notebooks_the_cell_exactly_if_it_has_an_address():
    address = address_of(ROOT)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = read_notebook(path)
        assert any(FETCHES in cell.metadata.get("tags", []) for cell in notebook.cells) == bool(address), path.name
        if address:
            assert launch.is_prepared(notebook, address), f"{path.name}: run python -m dclib.press.launch"


# where a page runs


def test_a_page_of_images_that_are_not_drawn_runs_nowhere():
    assert names("retrieval", "photographs") == []
    preset, stage = stage_of("retrieval", "photographs")
    assert launch_html(preset, stage, HERE) == ""


def test_what_a_page_needs_grows_with_what_it_trains():
    """As the planner has it: of one network, of all of them, and of none."""
    preset, stage = stage_of("pretraining_rotnet")
    plan = make_plan(preset, "rotnet", hardware_named("cpu"))
    one = need_of(preset, stage)
    assert (one.gpus, one.seconds) == (0, plan.seconds)
    assert one.ram_bytes == max(phase.ram_bytes + phase.device_bytes for phase in plan.phases)
    every = need_of(*stage_of("retrieval"))
    assert every.seconds > 10 * one.seconds
    assert need_of(*stage_of("scaling")).seconds == 0
    assert "needs a CPU and" in one.words
    assert hardware_named("cpu").name in one.words
    start = need_of(*stage_of("pretraining_deepercluster_hierarchy"))  # and the network that it starts from
    assert start.seconds > need_of(*stage_of("pretraining_rotnet")).seconds


LARGE = {"model.image_size": 224, "model.width": 1.0, "train.epochs": 100}


@pytest.mark.parametrize(("settings", "gpus"), [({}, 0), (LARGE, 1), ({**LARGE, "train.epochs": 100_000}, 2)])
def test_a_large_network_needs_a_gpu_and_a_long_training_of_it_several(settings, gpus):
    need = need_of(*stage_of("pretraining_rotnet", **settings))
    assert need.gpus == gpus
    assert ("a CPU", "one GPU", "several GPUs")[gpus] in need.words
    assert names("pretraining_rotnet", **settings) == (["Binder"] if gpus == 0 else [])


def test_a_network_that_needs_more_memory_than_a_machine_has_is_not_opened_there():
    assert names("pretraining_rotnet", **{"model.image_size": 224, "model.width": 1.0, "train.batch_size": 256}) == []


# the cell that fetches the project


def test_colab_is_offered_where_the_notebook_fetches_the_project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    write(tmp_path, {"url": HERE.url})
    before = {path: source_of(read_notebook(path)) for path in (tmp_path / "notebooks").glob("*.ipynb")}
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    assert names("retrieval") == ["Binder"]
    launch._main()
    assert names("retrieval") == ["Binder", "Colab"]
    assert names("retrieval", address=Address("https://github.com/other/b", "main")) == ["Binder"]
    place = re.findall(r'href="([^"]+)"', launch_html(*stage_of("retrieval"), HERE))[1]
    assert place == "https://colab.research.google.com/github/someone/a-book/blob/main/notebooks/05_retrieval.ipynb"
    for path in before:
        cells = read_notebook(path).cells
        at = next(i for i, cell in enumerate(cells) if FETCHES in cell.metadata.get("tags", []))
        assert "parameters" in cells[at + 1].metadata["tags"]
        ast.parse(cells[at].source)
        assert HERE.url in cells[at].source
    write(tmp_path)
    launch._main()
    assert {path: source_of(read_notebook(path)) for path in before} == before
    assert prepare(read_notebook(path), None).cells == read_notebook(path).cells
