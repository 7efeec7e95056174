"""The form of a page: its inputs are what the notebook and the preset say, and its commands do what it shows."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from copied_commands import asked_of_make, asked_of_papermill, copy_project, heard
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from screenshots import BROWSERS, open_browser, open_page, problems
from synthetic_records import make_card

from dclib.planner.hardware import CPU
from dclib.planner.pages import page_costs, stage_seconds
from dclib.presets import load_preset
from dclib.press import forms
from dclib.press.fields import comments_of, notebook_fields, preset_fields
from dclib.press.forms import Forms, said_of
from dclib.press.notebooks import TYPES, read_notebook
from dclib.press.stages import plan_stages
from dclib.press.titles import default_parameters
from dclib.records import Record
from dclib.report.provenance import duration
from dclib.train.runnable import Outlook

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
needs_browser = pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="needs a Chromium or Chrome")


def forms_of(name="smoke", settings=None, records=()):
    preset, stages = plan_stages(name, settings=settings or {})
    return Forms(preset, stages, Outlook(tuple(preset.methods), {}, (), {}), records)


def stage_of(made, page):
    return next(stage for stage in made.stages if stage.page == page)


@pytest.fixture
def measured(monkeypatch):
    """A machine that was measured, with two cores."""
    monkeypatch.setattr(forms, "kept_machine", lambda threads: dataclasses.replace(CPU, name=f"A CPU ({threads})"))
    monkeypatch.setattr(forms, "count_cores", lambda: 2)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("project"))


# what can be set


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_of_every_notebook_is_a_field_with_its_words(path):
    notebook = read_notebook(path)
    fields = {field.name: field for field in notebook_fields(notebook, load_preset("smoke"))}
    defaults = default_parameters(notebook)
    assert {name: field.value for name, field in fields.items()} == defaults
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for line in source.splitlines():
        name, words = line.split(":")[0], line.split("  # ")[1]
        assert fields[name].hint == words
    kinds = {"text": str, "int": int, "float": float, "bool": bool, "dict": dict}
    assert all(type(field.value) is kinds[field.kind] for field in fields.values())
    assert fields["preset"].choices == sorted(p.stem for p in (ROOT / "notebooks" / "presets").glob("*.yaml"))


def test_every_type_that_a_parameter_may_have_has_an_input():
    """Those of another, or of none, are left to who writes the command."""
    written = {"str": "'a'", "int": "2", "float": "0.5", "bool": "True", "list": "[]", "dict": "{}"}
    assert set(written) == set(TYPES)
    lines = [f"a_{kind}: {kind} = {value}  # words" for kind, value in written.items()]
    lines += ["some: list[int] = [1, 2]", "other: bytes = b''  # words", "none = 2  # words"]
    notebook = new_notebook(cells=[new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})])
    fields = {field.name: field for field in notebook_fields(notebook, load_preset("smoke"))}
    kinds = {"a_str": "text", "a_int": "int", "a_float": "float", "a_bool": "bool", "a_list": "texts", "a_dict": "dict"}
    assert {name: field.kind for name, field in fields.items()} == {**kinds, "some": "ints"}
    assert (fields["some"].written(), fields["a_bool"].written(), fields["a_float"].written()) == ("1, 2", True, "0.5")
    assert fields["some"].hint == ""


def test_settings_are_those_of_the_preset_with_its_values_and_words():
    """Each one is taken by the preset under its name with the value shown, and changes nothing."""
    for name, method in (("pocket", ""), ("pocket", "swav"), ("smoke", "rotnet"), ("photographs", "")):
        preset = load_preset(name)
        fields = {field.name: field for field in preset_fields(preset, method)}
        known = {key: one.value for key, one in fields.items() if one.value is not None}
        changed = load_preset(name, known)
        assert changed.method(method) == preset.method(method) if method else changed == preset
        assert len(known) > 80
    assert fields["train.epochs"].kind == "int"
    assert fields["probe.augment"].kind == "bool"
    assert fields["finetune.shares"].kind == "floats"
    assert fields["model.stem"].choices == ("sobel", "rgb", "folded")
    assert fields["model.stem"].hint.startswith("sobel: fixed image gradients; rgb: plain colour;")
    assert fields["model.width"].hint == "multiplies the 64..512 channels of VGG-16"
    pocket = {field.name: field for field in preset_fields(load_preset("pocket"))}
    assert pocket["train.epochs"].value is None  # its networks differ in it
    own = {field.name: field for field in preset_fields(load_preset("pocket"), "swav")}
    assert own["train.batch_size"].value == 32
    assert own["methods.swav.task.prototypes"].value == 32


def test_comments_are_read_as_they_stand():
    source = 'a: str = "#"  # one # two\n# of b\nb: int = 1\n# of this\n# and more\nc: int = 2\n'
    assert dict(comments_of(source)) == {1: "one # two", 3: "of this and more"}


# its place on a page, and how long it says


def test_a_form_takes_the_place_of_the_cells_of_parameters(measured):
    made = forms_of(settings={"seeds": [0, 1]})
    raw = [new_code_cell('preset: str = "smoke"  # </pre>', metadata={"tags": ["parameters"]})]
    raw.append(new_code_cell("settings = 1", metadata={"tags": ["injected-parameters"]}))
    last = new_code_cell("2")
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), new_markdown_cell("Words."), *raw, last])
    made.put(notebook, "retrieval", "stages")
    cells = notebook["cells"]
    assert [cell["metadata"].get("tags", []) for cell in cells] == [
        *([], [], ["remove-input"], ["parameters", "remove-cell"], ["injected-parameters", "remove-cell"], [])
    ]
    html = cells[2]["outputs"][0]["data"]["text/html"]
    assert "# &lt;/pre&gt;\nsettings = 1</pre>" in html
    assert "retrieval.ipynb" in html
    text = cells[2]["outputs"][0]["data"]["text/plain"]
    assert text == "\n\n".join(made.commands(stage_of(made, "retrieval")))
    bare = new_notebook(cells=[new_markdown_cell("# Title"), last])
    made.put(bare, "retrieval", "stages")
    assert [cell["cell_type"] for cell in bare["cells"]] == ["markdown", "code", "code"]


def test_the_time_is_what_the_planner_says_of_this_machine(measured):
    seeds = [0, 1, 2]
    made, machine = forms_of(settings={"seeds": seeds}), dataclasses.replace(CPU, name="A CPU (1)")
    stage = stage_of(made, "finetuning")
    times = made.times(stage)
    pages = [one.page for one in made.stages]
    expected = page_costs(made.preset, pages, machine, {}, drawers=2)["finetuning"].seconds
    networks = [name for name, config in made.preset.methods.items() if config.method != "random"]
    trained = stage_seconds(made.preset, networks, machine, {})["pretrain"]
    for name, seconds in (("page", expected), ("networks", trained)):
        fixed, each = times[name]
        assert fixed + 3 * each == pytest.approx(seconds, abs=0.05)  # both are kept to a hundredth
    said = said_of(times, 3)
    assert f"On A CPU (1), where this book was built, with 3 seeds: about {duration(expected)} for this page" in said
    assert f"up to {duration(trained)} more" in said
    fixed, each = times["book"]
    assert expected < fixed + 3 * each < 14 * (expected + trained)
    assert "run those first" in said_of(made.times(stage_of(made, "scorecard")), 3)
    assert "up to" not in said_of(made.times(stage_of(made, "planner")), 3)  # it trains nothing


def test_where_this_machine_was_not_measured_it_says_so(monkeypatch):
    monkeypatch.setattr(forms, "kept_machine", lambda threads: None)
    card = make_card("rotnet", 0, "pretrain", device="Another CPU (1 thread)", seconds=100.0)
    made = forms_of(records=[Record(name="loss", value=1.0, unit="nats", n=1, card=card)])
    said = made.html(stage_of(made, "pretraining_rotnet"), "")
    assert "is not known, for it had not been measured" in said
    assert "dclib plan --preset smoke" in said
    assert "What is shown here took 100 s for 1 pre-training" in said
    assert "Another CPU" in said
    assert "What is shown here" not in made.html(stage_of(made, "pretraining_swav"), "")
    probed = [make_card(name, 0, "linear_probe", seconds=9.0) for name in ("rotnet", "rotnet_on_1250_images")]
    tested = forms_of(records=[Record(name="top1", value=0.5, unit="share", n=1, card=card) for card in probed])
    said_there = tested.html(stage_of(tested, "linear_probes"), "")  # the second is none of the preset's methods
    assert "What is shown here took 9 s for 1 evaluation," in said_there
    gone = dataclasses.replace(made, known=False).html(stage_of(made, "pretraining_rotnet"), "")
    assert "for the images were not at hand" in gone


# its commands


def test_the_commands_of_each_page_run_it_as_it_is(measured, copied, monkeypatch):
    made = forms_of("pocket", {"seeds": [0, 1, 2], "train.lr": 1e-5})
    stages = list({stage.notebook: stage for stage in made.stages}.values())
    pairs = [made.commands(stage) for stage in stages]
    said = heard(copied, [command for pair in pairs for command in pair])
    for stage, alone, whole in zip(stages, said[::2], said[1::2], strict=True):
        defaults = default_parameters(read_notebook(stage.notebook))
        assert alone[0] == f"notebooks/{stage.notebook.name}"
        assert defaults | asked_of_papermill(alone, monkeypatch) == defaults | dict(stage.parameters)
        assert asked_of_make(whole) == ("pocket", "", {"seeds": [0, 1, 2], "train.lr": 1e-5})


def test_a_command_runs_for_real(tmp_path):
    """As it stands on the page, in a folder as a project is: a page of an untrained network, and few images."""
    settings = {"data.pocket_images": 100, "probe.epochs": 1, "probe.train_images": 20, "probe.test_images": 20}
    made = forms_of("smoke", settings)
    alone, _ = made.commands(stage_of(made, "pretraining_random"))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    environment = {**os.environ, "DCLIB_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(["sh", "-c", alone], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    executed = read_notebook(tmp_path / "02_pretraining-mine.ipynb")
    assert executed.metadata["papermill"]["parameters"]["settings"] == settings
    assert list((tmp_path / "runs" / "smoke" / "records" / "pretrain").glob("random-*.json"))


# in a browser

FILL = """(() => {
  const set = (id, value) => {
    const one = document.getElementById(id);
    if (!one) throw new Error(`no element ${id}`);
    if (one.type === 'checkbox') one.checked = value; else one.value = value;
    one.dispatchEvent(new Event('input', {bubbles: true}));
  };
  const add = (key, value) => {
    set('rerun-add', key);
    document.querySelector('#rerun-add + button').click();
    set(`rerun-set-${key.replace(/\\W/g, '-')}`, value);
  };
  const said = () => JSON.stringify({
    alone: document.querySelector('[data-command=alone]').textContent,
    whole: document.querySelector('[data-command=whole]').textContent,
    time: document.querySelector('.dclib-time').textContent,
    needs: [...document.querySelectorAll('.dclib-need')].map((e) => e.textContent).filter(Boolean),
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  });
  DO;
  return said();
})()"""
NAMED = """JSON.stringify([...document.querySelectorAll(
  '.dclib-rerun :is(input, select, button, pre.dclib-command)')].map((e) => {
  const label = e.labels?.[0]?.textContent || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
    || (e.tagName === 'BUTTON' && e.textContent);
  const told = (e.getAttribute('aria-describedby') || '').split(' ').filter(Boolean);
  return [e.tagName, label, e.tabIndex, told.every((id) => document.getElementById(id))];
}))"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


def page_of(folder, html):
    """A page with a form and the book's own script and style of it, and nothing else."""
    for name in ("forms.js", "forms.css"):
        shutil.copy(STATIC / name, folder)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><script src="forms.js"></script>'
    style = '<link rel="stylesheet" href="forms.css"><style>body{margin:8px}</style>'
    path = folder / "page.html"
    path.write_text(f'<!doctype html><html lang="en"><title>t</title>{head}{style}<article class="bd-article">{html}')
    return path


def do(browser, session, steps):
    given = {"expression": FILL.replace("DO", steps), "returnByValue": True, "userGesture": True}
    found = browser.call("Runtime.evaluate", session, **given)
    assert "exceptionDetails" not in found, found["exceptionDetails"]
    return json.loads(found["result"]["value"])


@needs_browser
def test_the_script_writes_the_same_commands_and_they_do_what_the_form_shows(
    browser,
    tmp_path,
    measured,
    copied,
    monkeypatch,
):
    made = forms_of("pocket", {"seeds": [0, 1, 2], "retrieval.longest_side": 96})
    stage = stage_of(made, "retrieval")
    target, session = open_page(browser, page_of(tmp_path, made.html(stage, "x = 1")).as_uri(), "phone")
    as_it_is = do(browser, session, "document.querySelector('.dclib-rerun').open = true")
    assert (as_it_is["alone"], as_it_is["whole"]) == made.commands(stage)
    times = made.times(stage)
    assert as_it_is["time"] == said_of(times, 3)
    assert as_it_is["wide"] == 0
    assert do(browser, session, "set('rerun-seeds', '5')")["time"] == said_of(times, 5)
    odd = "it's $HOME/`x` \"é\\"
    steps = f"""
      set('rerun-preset', 'smoke'); set('rerun-seeds', '2'); set('rerun-data', {json.dumps(odd)});
      set('rerun-weights', '2019'); add('train.lr', '1e-5'); add('probe.augment', true); add('model.stem', 'rgb');
      add('finetune.shares', '0.1, .5, 1'.replace(' .', ' 0.')); add('data.voc', {json.dumps(odd)});
      set('rerun-set-retrieval-longest_side', '128')"""
    filled = do(browser, session, steps)
    settings = {"seeds": [0, 1], "retrieval.longest_side": 128, "train.lr": 1e-5, "probe.augment": True}
    settings |= {"model.stem": "rgb", "finetune.shares": [0.1, 0.5, 1], "data.voc": odd}
    alone, whole = heard(copied, [filled["alone"], filled["whole"]])
    assert asked_of_papermill(alone, monkeypatch) == {"data": odd, "settings": settings, "weights": "2019"}
    assert asked_of_make(whole) == ("smoke", odd, settings)
    assert "dclib plan --preset smoke" in filled["time"]
    assert load_preset("smoke", {k: v for k, v in settings.items() if k != "data.voc"}).seeds == (0, 1)
    wrong = do(browser, session, "set('rerun-set-train-lr', 'fast'); set('rerun-seeds', '1.5')")
    assert wrong["needs"] == ["needs a whole number", "needs a number"]
    assert "train.lr" not in wrong["alone"] + wrong["whole"]
    none = do(browser, session, "set('rerun-seeds', '0')")
    assert none["needs"] == ["needs 1 or more", "needs a number"]
    assert "seeds" not in none["alone"] + none["whole"].lower()
    less = do(browser, session, "for (const b of document.querySelectorAll('[aria-label^=\"leave out\"]')) b.click()")
    assert "--set" not in less["whole"]
    named = json.loads(browser.call("Runtime.evaluate", session, expression=NAMED)["result"]["value"])
    assert {tag for tag, *_ in named} == {"INPUT", "SELECT", "BUTTON", "PRE"}
    assert [one for one in named if not one[1] or one[2] < 0 or not one[3]] == []
    assert problems({"wide": 0, "formulas": 0, "typeset": 0, "errors": 0}, browser.events) == []
    browser.call("Target.closeTarget", targetId=target)


@needs_browser
def test_a_command_is_copied_from_a_page_that_is_a_file(browser, tmp_path, measured):
    made = forms_of()
    html = made.html(stage_of(made, "pretraining_swav"), "")
    target, session = open_page(browser, page_of(tmp_path, html).as_uri(), "desktop")
    steps = """document.querySelector('.dclib-rerun').open = true; set('rerun-method', 'rotnet');
      document.querySelector('[data-command=alone]').nextSibling.querySelector('button').click();
      document.body.append(Object.assign(document.createElement('textarea'), {id: 'paper'}))"""
    shown = do(browser, session, steps)
    assert "-p method rotnet" in shown["alone"]
    told = "document.querySelector('.dclib-copied').textContent"
    for _ in range(100):
        if said := browser.call("Runtime.evaluate", session, expression=told)["result"]["value"]:
            break
        time.sleep(0.02)
    assert said == "copied"
    browser.call("Runtime.evaluate", session, expression="document.getElementById('paper').focus()")
    browser.call("Input.dispatchKeyEvent", session, type="keyDown", key="v", commands=["paste"])
    pasted = browser.call("Runtime.evaluate", session, expression="document.getElementById('paper').value")
    assert pasted["result"]["value"] == shown["alone"]
    browser.call("Target.closeTarget", targetId=target)
