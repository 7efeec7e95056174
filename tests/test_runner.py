"""The runner on throw-away notebooks: what it refuses, what it keeps, what it skips, and in which order."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from tiny_images import write_pictures

from dclib import __main__ as door
from dclib.machine import count_cores
from dclib.planner import calibration
from dclib.presets import load_preset
from dclib.press import runner, stages
from dclib.press.forecast import show_seconds
from dclib.press.notebooks import check_parameters, clean, execute, modules_used, unfinished_cells
from dclib.press.runner import Outcome, read_card, run_preset, run_stages
from dclib.press.stages import EVALUATIONS, SUMMARIES, Stage, alone, key_of, plan_stages, stage_parts, urgency

PARAMETERS = """\
preset: str = "tiny"  # name of a preset
data: str = ""  # folder of the images
settings: dict = {}  # preset keys to change"""
PLANNED = ("linear_probes", "hashtags")
METHOD = '\nmethod: str = "random"  # one of the preset\'s methods'
PRESET = """\
description: For tests.
methods:
  later: {method: rotnet, init: first}
  first: {method: rotnet}
data: {pool: ., objects_train: "", objects_test: "", scenes_train: "", scenes_test: ""}
"""
# every stage says when it began and ended
DIARY = """\
import json, time
from pathlib import Path
began = time.time()
time.sleep(0.2)
row = {"page": globals().get("method", NAME), "began": began, "ended": time.time()}
with Path("diary.jsonl").open("a") as file:
    file.write(json.dumps(row) + "\\n")"""


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    cells = [new_markdown_cell("# A page"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook = new_notebook(cells=[*cells, *map(new_code_cell, sources)])
    notebook.metadata["kernelspec"] = {"name": "conda-env-x-py", "language": "python", "display_name": "foreign"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of tiny notebooks and a preset of two methods, one of which starts from the other.

    Of the evaluations two are planned, one with and one without a need of trained networks: each costs a kernel.
    """
    monkeypatch.setattr(stages, "EVALUATIONS", {page: EVALUATIONS[page] for page in PLANNED})
    monkeypatch.setattr(stages, "SUMMARIES", {"scorecard": SUMMARIES["scorecard"]})
    for name in ("01_data", "02_pretraining", *EVALUATIONS.values(), *SUMMARIES.values()):
        parameters = PARAMETERS + (METHOD if name.startswith("02") else "")
        diary = DIARY.replace("NAME", repr(name))
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", diary, parameters=parameters)
    (tmp_path / "notebooks" / "presets").mkdir()
    (tmp_path / "notebooks" / "presets" / "tiny.yaml").write_text(PRESET)
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def single(project: Path, page: str, *sources: str, needs: tuple[str, ...] = ()) -> Stage:
    notebook = write_notebook(project / "notebooks" / f"{page}.ipynb", *sources)
    return Stage(page=page, notebook=notebook, parameters={"preset": "tiny"}, needs=needs)


def keys_of(some: list[Stage], key: str = "k") -> dict[str, str]:
    return {stage.page: key for stage in some}


def read_diary(project: Path) -> list[dict]:
    return [json.loads(line) for line in (project / "diary.jsonl").read_text().splitlines()]


def statuses(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {page: outcome.status for page, outcome in outcomes.items()}


# what is refused before anything runs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"presett": "tiny"}, r"no parameter 'presett'; did you mean 'preset'\?"),
        ({"zebra": 1}, "no parameter 'zebra'; it has preset, data, settings"),
        ({"preset": 3}, "'preset' of .* must be str; got 3"),
        ({"settings": "train.epochs=2"}, "'settings' of .* must be dict"),
        ({"epochs": True}, "'epochs' of .* must be int; got True"),
    ],
)
def test_a_wrong_parameter_is_an_error(tmp_path, given, message):
    notebook = write_notebook(tmp_path / "n.ipynb", parameters=PARAMETERS + "\nepochs: int = 2  # passes")
    with pytest.raises(ValueError, match=message):
        check_parameters(notebook, given)


def test_an_integer_will_do_for_a_float(tmp_path):
    check_parameters(write_notebook(tmp_path / "n.ipynb", parameters="lr: float = 0.1  # rate"), {"lr": 1})


def test_a_notebook_without_parameters_cell_is_an_error(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("preset = 'tiny'")]), tmp_path / "n.ipynb")
    with pytest.raises(ValueError, match="needs exactly one cell tagged 'parameters'; it has 0"):
        check_parameters(tmp_path / "n.ipynb", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset_name": "nope"}, "unknown preset 'nope'; there are tiny"),
        ({"settings": {"train.epoch": 2}}, "unknown key 'epoch' in .*; did you mean 'epochs'"),
        ({"data": "/not/there"}, "reads images from /not/there, which is not there; give .* --data"),
        ({"settings": {"methods.first.init": "later"}}, "must not lead back to itself"),
        ({"jobs": 0}, "need jobs >= 1"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(project, options, message):
    with pytest.raises(ValueError, match=message):
        run_preset(**{"preset_name": "tiny", **options})
    assert not (project / "runs").exists()


def test_a_typo_in_the_second_notebook_stops_the_first(project):
    write_notebook(project / "notebooks" / "02_pretraining.ipynb", parameters=PARAMETERS + "\nmethodd: str = ''")
    with pytest.raises(ValueError, match="no parameter 'method'; did you mean 'methodd'"):
        run_preset("tiny")
    assert not (project / "diary.jsonl").exists()


def test_two_runs_of_a_preset_exclude_each_other(project):
    (project / "runs" / "tiny").mkdir(parents=True)
    with (project / "runs" / "tiny" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another run of preset 'tiny' is at work"):
            run_preset("tiny")


def test_a_runs_folder_that_cannot_be_written_is_one_sentence(project, monkeypatch):
    (project / "file").write_text("")
    monkeypatch.setenv("DCLIB_RUNS", str(project / "file" / "runs"))
    with pytest.raises(OSError, match="cannot write to .*; set DCLIB_RUNS"):
        run_preset("tiny")


# a whole run


def test_a_run_goes_in_order_then_skips_then_repeats_only_what_changed(project, capsys):
    outcomes = run_preset("tiny", jobs=2)
    diary = {row["page"]: row for row in read_diary(project)}
    pages = ["data", "pretraining_first", "pretraining_later", *PLANNED, "scorecard"]
    assert statuses(outcomes) == dict.fromkeys(pages, "done")
    for chain in (
        ["01_data", "first", "later", "03_linear_probes", "12_scorecard"],
        ["01_data", "07_hashtags", "12_scorecard"],
    ):
        for before, after in zip(chain, chain[1:], strict=False):
            assert diary[before]["ended"] <= diary[after]["began"]
    said = capsys.readouterr().out
    assert said.index(" to go, by what ") < said.index("start ")  # told before the first page
    assert "start    pretraining_later" in said
    assert f"[1/{len(pages)}" in said
    assert f"[{len(pages)}/{len(pages)}]" in said

    assert statuses(run_preset("tiny", jobs=2)) == dict.fromkeys(pages, "skipped")
    assert len(read_diary(project)) == len(pages)

    write_notebook(project / "notebooks" / "12_scorecard.ipynb", DIARY.replace("NAME", "'again'"))
    assert statuses(run_preset("tiny", jobs=2)) == {**dict.fromkeys(pages, "skipped"), "scorecard": "done"}
    assert [row["page"] for row in read_diary(project)][len(pages) :] == ["again"]


def test_a_key_changes_with_everything_a_page_depends_on(project, monkeypatch):
    def keys(**options):
        preset, planned = plan_stages("tiny", **options)
        return {page: key_of(parts) for page, parts in stage_parts(planned, preset).items()}

    def changed(other):
        return {page for page in first if other[page] != first[page]}

    first = keys()
    everything = set(first)
    assert keys() == first
    assert changed(keys(settings={"train.epochs": 3})) == everything
    preset = project / "notebooks" / "presets" / "tiny.yaml"
    preset.write_text(PRESET + "train: {epochs: 3}\n")
    assert changed(keys()) == everything
    preset.write_text(PRESET)
    write_pictures(project / "images", 2, flat=True)
    assert changed(keys(data=str(project / "images"))) == everything
    write_notebook(project / "notebooks" / "02_pretraining.ipynb", "1", parameters=PARAMETERS + METHOD)
    assert changed(keys()) == everything - {"data", "hashtags"}
    monkeypatch.setattr(stages, "code_hash", lambda *modules: "other code")
    assert changed(keys()) == everything


def test_a_key_changes_when_images_do(project):
    def key():
        preset, planned = plan_stages("tiny", data=str(images))
        return key_of(stage_parts(planned, preset)["data"])

    images = project / "images"
    write_pictures(images / "cat", 2, flat=True)
    (images / "set.tar").write_bytes(b"one")
    first = key()
    assert key() == first
    (images / "set.tar").write_bytes(b"other")
    second = key()
    os.utime(images / "cat" / "000.png", ns=(0, 0))  # written to, to as many bytes
    third = key()
    (images / "cat" / "001.png").unlink()
    assert len({first, second, third, key()}) == 4


def test_a_relative_folder_is_found_from_elsewhere(project, monkeypatch):
    write_pictures(project / "elsewhere" / "images", 2, flat=True)
    monkeypatch.chdir(project / "elsewhere")
    _, planned = plan_stages("tiny", data="images")
    assert planned[0].parameters["data"] == os.path.join("elsewhere", "images")


def test_images_that_are_not_enough_are_refused_before_the_first_page(project):
    (project / "images").mkdir()
    with pytest.raises(ValueError, match="no images in .*images: need files ending in"):
        run_preset("tiny", data=str(project / "images"))
    odd = os.fsdecode(os.fsencode(project) + b"/caf\xe9")
    os.mkdir(odd)
    with pytest.raises(ValueError, match=r"whose path is in UTF-8, .* got .*caf.xe9: rename it"):
        run_preset("tiny", data=odd)
    assert not (project / "diary.jsonl").exists()


# failures


@pytest.mark.parametrize(("deaths", "runs"), [(0, True), (2, True), (3, False)])
def test_a_kernel_that_dies_before_its_first_cell_is_started_again(project, monkeypatch, deaths, runs):
    """With the real manager of kernels, whose ``wait_for_ready`` gives up as it does after two took the same port."""
    from jupyter_client.asynchronous import AsyncKernelClient

    honest, left = AsyncKernelClient.wait_for_ready, [deaths]

    async def dies(self, timeout=None):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("Kernel died before replying to kernel_info")
        await honest(self, timeout)

    monkeypatch.setattr(AsyncKernelClient, "wait_for_ready", dies)
    notebook = write_notebook(project / "notebooks" / "n.ipynb", "print('ran')")
    output = project / "out.ipynb"
    if runs:
        execute(notebook, output, {"preset": "tiny"}, cwd=project, timeout=60)
        assert '"ran' in output.read_text()
    else:
        with pytest.raises(RuntimeError, match="died before"):
            execute(notebook, output, {"preset": "tiny"}, cwd=project, timeout=60)


SHARED = """
import sys
from pathlib import Path
from jupyter_client.asynchronous import AsyncKernelClient
from dclib.press.notebooks import Kernel, execute

honest, left = AsyncKernelClient.wait_for_ready, [2]

async def dies(self, timeout=None):
    if left[0]:
        left[0] -= 1
        raise RuntimeError("Kernel died before replying to kernel_info")
    await honest(self, timeout)

AsyncKernelClient.wait_for_ready = dies
notebook, kernel = Path(sys.argv[1]), Kernel()
for name in ("first", "second"):
    execute(notebook, Path(f"{name}.ipynb"), {"preset": "tiny"}, cwd=Path.cwd(), timeout=60, kernel=kernel)
kernel.end()
"""


def test_a_kernel_that_notebooks_share_is_started_again_too(project):
    """In a process of its own: jupyter_client leaves warnings of a client that died, and these are errors here."""
    notebook = write_notebook(project / "notebooks" / "n.ipynb", "import os\nprint('ran in', os.getpid())")
    command = [sys.executable, "-c", SHARED, str(notebook)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    first, second = (re.findall(r"ran in \d+", (project / f"{name}.ipynb").read_text()) for name in ("first", "second"))
    assert len(first) == 1
    assert first == second


def test_failures_keep_the_last_good_page_and_stop_only_what_needs_them(project):
    some = [
        single(project, "failing", "x = 1", "# why\nx / 0", "x = 2"),
        single(project, "killed", "import os; os.kill(os.getpid(), 9)", "x = 2"),
        single(project, "slow", "import time; time.sleep(60)"),
        single(project, "dependent", "1", needs=("failing",)),
        single(project, "well", "1"),
    ]
    folder = project / "runs" / "tiny"
    (folder / "pages").mkdir(parents=True)
    for page in ("failing", "killed"):
        (folder / "pages" / f"{page}.ipynb").write_text("the last good page")
        (folder / "pages" / f"{page}.json").write_text(json.dumps({"key": "old"}))

    outcomes = run_stages(some, keys_of(some), folder, jobs=2, cores=2, timeout=5)

    expected = {"failing": "failed", "killed": "failed", "slow": "failed", "dependent": "blocked", "well": "done"}
    assert statuses(outcomes) == expected
    assert outcomes["failing"].message.startswith("ZeroDivisionError: division by zero\nin cell ")
    assert "'x / 0'" in outcomes["failing"].message
    assert "kernel was killed" in outcomes["killed"].message
    assert "'import os; os.kill(os.getpid(), 9)'" in outcomes["killed"].message
    assert "longer than 5 s" in outcomes["slow"].message
    assert outcomes["dependent"].message == "needs failing"
    for page in ("failing", "killed"):
        assert (folder / "pages" / f"{page}.ipynb").read_text() == "the last good page"
        assert read_card(folder, page) == {"key": "old"}
        assert (folder / "failed" / f"{page}.ipynb").is_file()
    assert {path.stem for path in (folder / "pages").glob("*")} == {"failing", "killed", "well"}
    assert not [path for path in (folder / "work").iterdir() if path.is_file()]


def test_a_success_clears_the_failure_before_it_and_two_runs_compare(project):
    some = [single(project, "page", "import time; print('hello')")]
    folder = project / "runs" / "tiny"
    (folder / "failed").mkdir(parents=True)
    (folder / "failed" / "page.ipynb").write_text("{}")
    texts = []
    for _ in range(2):
        run_stages(some, keys_of(some), folder, jobs=1, cores=1, force=True)
        texts.append((folder / "pages" / "page.ipynb").read_text())
    assert texts[0] == texts[1]
    assert str(project) not in texts[0]
    injected = [cell for cell in json.loads(texts[0])["cells"] if cell["id"] == "injected-parameters"]
    assert "".join(injected[0]["source"]).endswith('preset = "tiny"\n')
    assert not list((folder / "failed").iterdir())
    card = read_card(folder, "page")
    assert card is not None
    assert card["key"] == "k"
    assert card["seconds"] > 0
    assert {"python", "papermill"} <= set(card["versions"])


KERNEL = """\
import os
from pathlib import Path
with Path("kernels").open("a") as file:
    file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {globals().get('left', 'nothing')}\\n")
left = "something"
import multiprocessing
assert multiprocessing.get_context("spawn").Pool(1).map(abs, [-1]) == [1]"""


def test_stages_share_a_kernel_without_what_others_left_until_one_fails_or_needs_other_threads(project):
    more = {"failing": ["1 / 0"]}
    ways = {"alone": (), "failing": ("alone",), "second": ("alone",), "third": ("second",), "beside": ("alone",)}
    costs = {"failing": 9.0, "beside": 20.0}
    beside = "import time\ntime.sleep(6)"  # its kernel is not free for any other
    some = [
        replace(
            single(project, page, *([beside] if page == "beside" else [KERNEL, *more.get(page, [])]), needs=needs),
            cost=costs.get(page, 1.0),
        )
        for page, needs in ways.items()
    ]
    outcomes = run_stages(some, keys_of(some), project / "runs" / "tiny", jobs=2, cores=3)
    assert statuses(outcomes) == dict.fromkeys(ways, "done") | {"failing": "failed"}
    kernels, threads, left = zip(*map(str.split, (project / "kernels").read_text().splitlines()), strict=True)
    assert threads == ("3", "1", "1", "1")  # alone, failing, second, third
    assert set(left) == {"nothing"}
    assert len(set(kernels)) == 3
    assert kernels[2] == kernels[3]


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_nobody_and_the_same_command_goes_on(project, monkeypatch):
    keep_calibration(monkeypatch)
    sleep = "import os, time\nfrom pathlib import Path\nPath('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    write_notebook(project / "notebooks" / "01_data.ipynb", sleep)
    command = [sys.executable, "-m", "dclib", "run", "--preset", "tiny"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: (project / "pid").is_file() and (project / "pid").read_text())
        process.kill()
    write_notebook(project / "notebooks" / "01_data.ipynb", "1")
    assert set(statuses(run_preset("tiny")).values()) == {"done"}
    assert not is_alive(int((project / "pid").read_text()))


def test_an_interrupted_run_ends_its_kernels(project, monkeypatch):
    sleep = "import os, time\nfrom pathlib import Path\nPath('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    write_notebook(project / "notebooks" / "01_data.ipynb", sleep)
    command = [sys.executable, "-m", "dclib", "run", "--preset", "tiny"]
    keep_calibration(monkeypatch)
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (project / "pid").is_file() and (project / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "interrupted" in message
    pid = int((project / "pid").read_text())
    wait_until(lambda: not is_alive(pid))


def keep_calibration(monkeypatch) -> None:
    """As if this machine had been measured before, so that a run in a process of its own begins at once."""
    rates = ("linear_flops", "double_flops", "crop_rate", "interpreter_rate", "bfloat16")
    monkeypatch.setattr(
        calibration, "_measure", lambda passes, *_: dict.fromkeys([*rates, *(p.name for p in passes)], 1.0)
    )
    jobs = min(count_cores(), runner.MAX_JOBS)
    calibration.this_machine(load_preset("tiny"), threads=max(1, count_cores() // jobs), beside=jobs)


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else not os.kill(pid, 0)
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


# side by side


def test_two_stages_run_side_by_side_with_their_share_of_the_cores(project, monkeypatch):
    # a personal kernel and a drawing back-end without windows would both spoil the pages
    spec = project / "personal" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(project / "personal"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    meet = """\
import os, time
from pathlib import Path
Path({me!r}).write_text(" ".join(os.environ[k] for k in ("OMP_NUM_THREADS", "MPLBACKEND")))
end = time.time() + 30
while not Path({other!r}).exists():
    assert time.time() < end, "the other one never came"
    time.sleep(0.05)"""
    some = [
        single(project, "left", meet.format(me="l", other="r")),
        single(project, "right", meet.format(me="r", other="l")),
    ]
    outcomes = run_stages(some, keys_of(some), project / "runs" / "tiny", jobs=2, cores=5)
    assert statuses(outcomes) == {"left": "done", "right": "done"}
    assert (project / "l").read_text().startswith("2 module://matplotlib_inline")


def test_the_longest_chain_starts_first_and_a_stage_without_company_has_all_cores():
    def stage(page, cost, *needs):
        return Stage(page=page, notebook=Path("n.ipynb"), parameters={}, needs=needs, cost=cost)

    some = [
        stage("data", 1),
        stage("a", 5, "data"),
        stage("b", 3, "data"),
        stage("c", 4, "b"),
        stage("end", 1, "a", "c"),
    ]
    assert urgency(some) == {"end": 1, "c": 5, "a": 6, "b": 8, "data": 9}
    assert alone(some) == {"data", "end"}


# pieces


def test_a_cell_without_the_kernels_reply_is_unfinished():
    cells = [
        new_code_cell("a", metadata={"execution": {"shell.execute_reply": "2026"}}),
        new_code_cell("# comment\nb = 2", metadata={"execution": {}}),
        new_code_cell(""),
        new_markdown_cell("text"),
    ]
    assert unfinished_cells(new_notebook(cells=cells)) == ["b = 2"]
    assert all("execution" not in cell.metadata for cell in clean(new_notebook(cells=cells)).cells)


def test_modules_used_covers_what_python_loads():
    code = "from dclib.press.runner import run_preset\nfrom dclib.press import stages"
    show = "import sys; print(*[m for m in sys.modules if m.startswith('dclib.')])"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    ).stdout.split()
    used = {name.removesuffix("/__init__").replace("/", ".") for name in modules_used(code)}
    package = Path(door.__file__).parent
    empty = {path.parent.name for path in package.glob("*/__init__.py") if not path.read_text()}
    assert {name.removeprefix("dclib.") for name in loaded} <= used | empty
    without_torch = ["train.absent", "train.chance", "train.runnable"]
    assert sorted(name for name in used if name.startswith("train")) == without_torch


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (3 * 3600 + 125, "3 h 2 min")]
)
def test_durations_read_well(seconds, text):
    assert show_seconds(seconds) == text


# the command line


def test_an_unknown_preset_is_one_sentence_and_status_2():
    done = subprocess.run([sys.executable, "-m", "dclib", "run", "--preset", "nope"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("dclib: unknown preset 'nope'; there are ")
    assert len(done.stderr.splitlines()) == 1


def test_settings_are_read_as_yaml_and_a_failed_stage_is_status_1(monkeypatch, capsys):
    asked = {}

    def fake(preset_name, **options):
        asked.update(options)
        return {"data": Outcome(status="done"), "scorecard": Outcome(status="failed")}

    monkeypatch.setattr(runner, "run_preset", fake)
    status = door.main(
        ["run", "--set", "train.epochs=2", "--set", "seeds=[0, 1]", "--set", "data.scenes_test=", "--jobs", "3"]
    )
    assert status == 1
    assert asked["settings"] == {"train.epochs": 2, "seeds": [0, 1], "data.scenes_test": ""}
    assert asked["jobs"] == 3
    assert "1 of 2 pages are missing or old: scorecard" in capsys.readouterr().err


def test_a_broken_preset_file_and_a_bare_key_are_one_sentence(tmp_path, capsys):
    (tmp_path / "broken.yaml").write_text("methods: [")
    assert door.main(["run", "--preset", str(tmp_path / "broken.yaml")]) == 2
    assert door.main(["run", "--set", "train.epochs"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[1] == "dclib: --set needs key=value, such as train.epochs=2; got 'train.epochs'"


def test_what_the_system_says_of_a_file_is_a_sentence_with_its_name_and_what_to_do(monkeypatch, capsys):
    def refuse(name):
        raise PermissionError(13, "Permission denied", "photos/caf\udce9")

    monkeypatch.setattr(door, "load_preset", refuse)
    assert door.main(["presets", "pocket"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dclib: cannot use photos/caf\\xe9: Permission denied; see that")


def test_presets_are_listed_and_shown(capsys):
    assert door.main(["presets"]) == 0
    assert "pocket\n    The whole method" in capsys.readouterr().out
    assert door.main(["presets", "smoke"]) == 0
    assert "pocket_images: 600" in capsys.readouterr().out
