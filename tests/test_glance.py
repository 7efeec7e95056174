"""Runs as they are listed and compared, among folders of all kinds, and their logs."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_images import decoded_pixels, method_config, silent, write_pictures

from dclib.__main__ import main
from dclib.data.layouts import open_images
from dclib.explore import tensorboard as module
from dclib.explore.found import find_runs, read_run
from dclib.explore.glance import age, compare, listing, run_place
from dclib.explore.tensorboard import Log, logging_runs
from dclib.records import Record, RunCard, write_records
from dclib.train.pretrain import pretrain

HASH = "0123456789ab"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its records, one that was cut short, and folders that are neither."""
    root = tmp_path_factory.mktemp("kept")
    pixels = decoded_pixels(open_images(write_pictures(root / "photos", 32)))
    for method, epochs in (("deepercluster", 2), ("rotnet", 1)):
        folder = root / "smoke" / "runs" / f"{method}-s0-{HASH}"
        config = method_config(method, train={"epochs": epochs})
        state = pretrain(pixels, config, folder=folder, report=silent)
        os.utime(folder / "checkpoint.pt", (1e9, 1e9))
        os.utime(folder, (1e9, 1e9))
        if method == "deepercluster":
            card = {"preset": "smoke", "method": method, "seed": 0, "config_hash": "", "data_hash": "", "code_hash": ""}
            settings = {"method": method, "train": {"epochs": 2, "lr": 0.05}}
            rows = [
                Record(name="loss", value=row["loss"], unit="nats", n=48, keys={"epoch": int(row["epoch"])})
                for row in state.history
                if "loss" in row
            ]
            at = root / "smoke" / "records"
            pretrained = RunCard(stage="pretrain", device="", seconds=1, config=settings, **card)
            write_records(at / "pretrain" / f"{method}-s0.json", pretrained, rows)
            probed = [
                Record(name="top1", value=50.0 + layer % 5, unit="%", n=9, keys={"dataset": "objects", "layer": layer})
                for layer in range(1, 14)
            ]
            probe = RunCard(stage="linear_probe", device="", seconds=1, **card)
            write_records(at / "linear_probe" / f"{method}-objects-s0.json", probe, probed)
    broken = root / "smoke" / "runs" / f"rotnet-s1-{HASH}"
    for folder, content in ((broken, b"PK not really"), (root / "foreign\x1b[31m\n", b"")):
        folder.mkdir()
        (folder / "checkpoint.pt").write_bytes(content)
    (root / "other").mkdir()
    torch.save({"model": torch.zeros(3)}, root / "other" / "checkpoint.pt")
    (root / "loop").symlink_to(root)
    return root


def test_each_run_has_a_line_that_tells_how_it_is(runs: Path) -> None:
    found = {run.folder.name: run for run in find_runs(runs)}
    assert len(found) == 5
    done, cut = found[f"deepercluster-s0-{HASH}"], found[f"rotnet-s0-{HASH}"]
    assert (done.state, done.epoch, done.epochs, done.best_layer, done.n_images) == ("finished", 2, 2, 4, 32)
    assert done.nmi is not None
    assert done.health
    assert (cut.state, cut.epoch, cut.preset, cut.best_layer) == ("interrupted", 1, "smoke", None)
    assert {run.state for name, run in found.items() if name not in (done.folder.name, cut.folder.name)} == {"damaged"}
    text = listing(runs)
    assert len(text.splitlines()) == 6  # a name with a line break in it has one too
    assert "\x1b" not in text
    assert len(json.loads(listing(runs, as_json=True))) == 5


def test_records_of_another_run_of_the_name_are_not_taken_for_its_own(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    path = tmp_path / "smoke" / "runs" / f"deepercluster-s0-{HASH}" / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    saved["state"]["history"][-1]["loss"] += 0.5
    torch.save(saved, path)
    run = read_run(path.parent)
    assert (run.card, run.best_layer, run.state) == ({}, None, "running")


def test_two_runs_stand_side_by_side(runs: Path) -> None:
    text = compare("deepercluster-s0", "rotnet-s0", runs)
    assert "conv4, 54.0 %" in text
    losses = read_run(runs / "smoke" / "runs" / f"rotnet-s0-{HASH}").history
    assert f"{losses[0]['loss']:.3f}" in text
    assert json.loads(compare("deepercluster-s0", "rotnet-s0", runs, as_json=True))["differ"]
    with pytest.raises(ValueError, match=r"no run 'swav' below .*there are"):
        compare("deepercluster-s0", "swav", runs)
    with pytest.raises(ValueError, match="need the names or folders of two runs"):
        compare("deepercluster-s0", "", runs)
    with pytest.raises(ValueError, match="records holds neither"):
        compare("deepercluster-s0", str(runs / "smoke" / "records"), runs)


def test_a_run_is_meant_by_a_path_or_by_a_name_that_the_list_shows(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    monkeypatch.setenv("DCLIB_RUNS", str(kept))
    monkeypatch.chdir(tmp_path)
    trained = runs / "smoke" / "runs" / f"rotnet-s0-{HASH}"
    places = [
        kept / "a-preset-with-a-name" / "runs" / f"deepercluster-s0-{HASH}",
        kept / "other" / "runs" / f"deepercluster-s0-{HASH}",
        kept / "other" / "runs" / f"rotnet-s1-{HASH}",
    ]
    for place in places:
        shutil.copytree(trained, place)
    shutil.copytree(trained, kept / "explored" / "holiday" / "network")
    listed = [line.split("  ")[0] for line in listing().splitlines()[1:]]
    assert any(name.startswith("...") for name in listed)
    assert {run_place(name) for name in listed} == {*places, kept / "explored" / "holiday"}
    assert run_place("rotnet-s1") == run_place(f"rotnet-s1-{HASH}") == places[2]
    with pytest.raises(ValueError, match=rf"2 runs are called 'deepercluster-s0': .*{places[1]}.*; give the folder"):
        run_place("deepercluster-s0")
    with pytest.raises(ValueError, match=r"need the path of a run or a name .* 'hollidays' is neither; near it: holi"):
        run_place("hollidays")
    with pytest.raises(ValueError, match=r"'~~~' is neither; there are .*holiday"):
        run_place("~~~")
    (tmp_path / "holiday").mkdir()
    assert run_place("holiday") == Path("holiday")  # a path that is there is meant
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"'photos' is neither; there are none$"):
        run_place("photos")


@pytest.mark.parametrize("command", ["export", "embed"])
def test_commands_on_a_run_take_its_name(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "kept"))
    shutil.copytree(
        runs / "smoke" / "runs" / f"rotnet-s0-{HASH}", tmp_path / "kept" / "explored" / "holiday" / "network"
    )
    photographs = [str(write_pictures(tmp_path / "photos", 3, flat=True))] if command == "embed" else []
    assert main([command, "holiday", *photographs, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / {"embed": "features.npy", "export": "model.safetensors"}[command]).is_file()


def test_the_command_lists_an_exploration_and_tells_of_an_empty_place(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs below" in capsys.readouterr().out
    shutil.copytree(runs / "smoke" / "runs" / f"rotnet-s0-{HASH}", tmp_path / "holiday" / "network")
    (tmp_path / "holiday" / "summary.json").write_text('{"verdict": "learned"}')
    assert main(["runs", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert all(word in line for word in ("holiday", "exploration", "finished", "learned"))
    assert main(["runs", str(tmp_path / "nowhere")]) == 2


def test_a_folder_whose_files_may_not_be_looked_at_is_passed(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    (tmp_path / "closed").mkdir()
    asked = os.stat

    def refuse(path: object, **more: object) -> os.stat_result:
        if str(path).startswith(f"{tmp_path}/closed/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return asked(path, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        listed = listing(tmp_path)
    assert f"rotnet-s0-{HASH}"[-10:] in listed


def test_ages_are_in_their_largest_unit() -> None:
    assert [age(s) for s in (5, 300, 7300, 200_000)] == ["5 s", "5 min", "2 h", "2 d"]


class Written:
    """Stands for TensorBoard's writer, and keeps what it is given."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.rows: list[tuple[str, float, int]] = []
        everything.append(self.rows)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))

    def flush(self) -> None: ...

    def close(self) -> None: ...


everything: list[list[tuple[str, float, int]]] = []


def test_a_log_follows_a_run_and_a_resumed_one_has_no_step_twice(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "summary_writer", lambda: Written)
    everything.clear()
    pixels = decoded_pixels(open_images(runs / "photos"))
    config = method_config("deepercluster", train={"epochs": 3})
    log = Log(tmp_path / "run")
    with logging_runs(tmp_path, every=0.01):
        state = pretrain(pixels, config, folder=tmp_path / "run", report=lambda line: log.catch_up() and None)
    for rows in everything:
        losses = [(value, step) for name, value, step in rows if name == "loss"]
        assert losses == [(row["loss"], row["epoch"]) for row in state.history if "loss" in row][: len(losses)]
        assert len({(name, step) for name, _, step in rows}) == len(rows)
    assert len([row for row in everything[-1] if row[0] == "loss"]) == 3 or len(everything) > 1
    assert max(sum(row[0] == "loss" for row in rows) for rows in everything) == 3
    Log(tmp_path / "run").close()  # another sitting writes all of it anew, not once more
    assert sum(row[0] == "loss" for row in everything[-1]) == 3


def test_what_tensorboard_reads_is_the_history_once(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    shutil.copytree(runs / "smoke" / "runs" / f"deepercluster-s0-{HASH}", tmp_path / "run")
    for _ in range(2):
        Log(tmp_path / "run").close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    kept = [(e.step, round(e.value, 4)) for e in events.Scalars("loss")]
    assert kept == [
        (row["epoch"], round(row["loss"], 4)) for row in read_run(tmp_path / "run").history if "loss" in row
    ]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_without_tensorboard_a_sentence_comes_before_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[tensorboard\]'"), logging_runs(tmp_path):
        raise AssertionError("nothing is trained")


def test_a_folder_that_goes_while_logs_are_followed_stops_nothing(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "summary_writer", lambda: Written)
    everything.clear()
    (tmp_path / "clustering-0" / "points").mkdir(parents=True)
    shutil.copytree(runs / "smoke" / "runs" / f"deepercluster-s0-{HASH}", tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").touch()
    scan = os.scandir

    def going(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path).name == "clustering-0":  # rmtree itself scans by number
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", going)
    with logging_runs(tmp_path, every=60):
        pass
    monkeypatch.undo()
    assert sum(row[0] == "loss" for row in everything[-1]) > 0
