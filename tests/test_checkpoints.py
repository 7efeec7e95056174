"""The one file of a run: whole or the one before, readable by anybody, and nobody else's."""

import ast
import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_images import (
    CLASSES,
    TINY_MODEL,
    labelled,
    method_config,
    picture_tensor,
    silent,
    streamed_pixels,
    with_labels,
    write_pictures,
)

from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train import checkpoints, start
from dclib.train import pretrain as loop
from dclib.train.checkpoints import Saver, load_checkpoint, save_checkpoint
from dclib.train.pretrain import pretrain
from dclib.train.start import run_identity
from dclib.train.state import State

STATE = {"weights": torch.arange(6.0), "epoch": 3, "history": [{"loss": 0.5}], "notes": {"a": "b"}}
PACKAGE = Path(checkpoints.__file__).parents[1]
ONE_EPOCH = method_config("rotnet", train={"epochs": 1, "epoch_images": 16})


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    kinds = [CLASSES[i % 4] for i in range(24)]
    return labelled(picture_tensor(kinds), [CLASSES.index(k) for k in kinds], 32)


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    save_checkpoint(tmp_path / "deep" / "er" / "checkpoint.pt", "me", STATE)
    found = load_checkpoint(tmp_path / "deep" / "er" / "checkpoint.pt", "me")
    assert torch.equal(found.pop("weights"), STATE["weights"])
    assert found == {k: v for k, v in STATE.items() if k != "weights"}
    assert listing(tmp_path / "deep" / "er") == ["checkpoint.pt"]


def test_no_checkpoint_is_no_error(tmp_path):
    assert load_checkpoint(tmp_path / "nowhere" / "checkpoint.pt", "me") is None


def test_checkpoint_of_a_run_needs_no_trust(pixels, tmp_path):
    """weights_only: nothing but tensors, numbers, texts, lists and dicts, so that no code runs on loading."""
    config = method_config("deepercluster", cluster={"n_super": 2}, train={"epochs": 1})
    state = pretrain(pixels, config, folder=tmp_path, report=silent)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content.keys() == {"identity", "state"}
    assert content["state"]["history"] == state.history
    assert torch.equal(content["state"]["trunk"]["features.0.weight"], state.trunk.features[0].weight)
    assert content["state"]["optimisers"]["trunk"]["state"][0]["momentum_buffer"].shape == (4, 2, 3, 3)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_full_disk_leaves_the_last_checkpoint_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, "me", STATE)
    before = path.read_bytes()

    def save_half(content, file):
        file.write(before[: len(before) // 2])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_half)
        with pytest.raises(OSError, match="could not write .*checkpoint.*intact. Free some space.*continues"):
            save_checkpoint(path, "me", {**STATE, "epoch": 4})
    assert path.read_bytes() == before
    assert load_checkpoint(path, "me")["epoch"] == 3
    assert listing(tmp_path) == ["checkpoint.pt"]


def test_interruption_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(content, file):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "checkpoint.pt", "me", STATE)
    assert listing(tmp_path) == []


def test_file_is_complete_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, call=call, name=name: (events.append(name), call(*a))[1])
    replaced = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append("rename"), replaced(self, target))[1])
    save_checkpoint(tmp_path / "checkpoint.pt", "me", STATE)
    assert events[:2] == ["fsync", "rename"]


def test_full_disk_inside_a_run_can_be_gone_on_from(pixels, tmp_path, monkeypatch):
    config = method_config("deepcluster", cluster={"n_sub": 4})
    expected = pretrain(pixels, config, folder=tmp_path / "whole", report=silent)
    save, calls = torch.save, [0]

    def filling(content, file):
        calls[0] += 1
        if calls[0] == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", filling)
        with pytest.raises(OSError, match="No space left on device.*the last complete version, if any, is intact"):
            pretrain(pixels, config, folder=tmp_path / "full", save_every=0.0, report=silent)
    assert listing(tmp_path / "full") == ["checkpoint.pt", "clusterings"]
    resumed = pretrain(pixels, config, folder=tmp_path / "full", save_every=0.0, report=silent)
    assert torch.equal(resumed.trunk.classifier[3].weight, expected.trunk.classifier[3].weight)


def damaged_files(tmp_path: Path) -> dict[str, bytes]:
    save_checkpoint(tmp_path / "whole.pt", "me", STATE)
    whole = (tmp_path / "whole.pt").read_bytes()
    torch.save({"identity": "me"}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"identity": "me", "state": Path("x")}, tmp_path / "object.pt")
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "without its end": whole[:-30],
        "text": b"<html>302 Found</html>",
        "words": b"hello world, this is no checkpoint at all",
        "zeros": bytes(1000),
        "noise": np.random.default_rng(0).bytes(1000),
        "zip mark": b"PK\x03\x04",
        "without a state": (tmp_path / "other.pt").read_bytes(),
        "list": (tmp_path / "list.pt").read_bytes(),
        "an object": (tmp_path / "object.pt").read_bytes(),
    }


def test_damaged_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for name, content in damaged_files(tmp_path).items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is not a readable checkpoint") as caught:
            load_checkpoint(path, "me")
        assert "delete it to start afresh" in str(caught.value), name
        assert "()" not in str(caught.value), name  # a reason is given
        assert "weights_only" not in str(caught.value), name  # and no advice to load it without safety
        assert path.read_bytes() == content


def test_damaged_checkpoint_stops_a_run_and_is_kept(pixels, tmp_path):
    pretrain(pixels, ONE_EPOCH, folder=tmp_path, report=silent)
    cut = (tmp_path / "checkpoint.pt").read_bytes()[:-100]
    (tmp_path / "checkpoint.pt").write_bytes(cut)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        pretrain(pixels, ONE_EPOCH, folder=tmp_path, report=silent)
    assert (tmp_path / "checkpoint.pt").read_bytes() == cut


def test_checkpoint_of_another_identity_is_refused_with_both(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", "theirs", STATE)
    with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to another.*theirs.*mine.*use another folder"):
        load_checkpoint(tmp_path / "checkpoint.pt", "mine")


@pytest.mark.parametrize("kind", ["pixels", "images"])
def test_folder_that_cannot_be_made_is_found_out_before_training(pixels, tmp_path, monkeypatch, kind):
    """Below a file nobody can make a folder, not even root."""
    (tmp_path / "file.txt").write_text("x")
    data = pixels if kind == "pixels" else open_images(write_pictures(tmp_path / "pictures", 8))
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("trained"))
    with pytest.raises(OSError, match=r"file\.txt.*choose a folder that can be written"):
        pretrain(data, ONE_EPOCH, folder=tmp_path / "file.txt" / "run", report=silent)


# --- when it is written


def test_saver_writes_a_first_checkpoint_and_then_when_it_is_due(pixels, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    state = State.begin(ONE_EPOCH, pixels, 0, torch.device("cpu"), None)
    saver = Saver(tmp_path, "me", 60.0)
    assert not saver.is_due
    saver.restore(state)
    assert load_checkpoint(tmp_path / "checkpoint.pt", "me")["epoch"] == 0
    now[0] = 159.0
    assert not saver.is_due
    now[0] = 160.0
    assert saver.is_due
    saver.save(state)
    assert not saver.is_due


def test_saver_brings_a_state_to_the_saved_one(pixels, tmp_path):
    one = State.begin(ONE_EPOCH, pixels, 0, torch.device("cpu"), None)
    one.epoch, one.step, one.totals = 1, 2, [3.0, 4.0, 5.0]
    Saver(tmp_path, "me", 60.0).save(one)
    two = State.begin(ONE_EPOCH, pixels, 7, torch.device("cpu"), None)
    Saver(tmp_path, "me", 60.0).restore(two)
    assert (two.epoch, two.step, two.totals) == (1, 2, [3.0, 4.0, 5.0])
    for name, tensor in one.trunk.state_dict().items():
        assert torch.equal(two.trunk.state_dict()[name], tensor), name


# --- whose it is


def test_identity_is_the_same_for_the_same_run(pixels):
    again = labelled(pixels.decoded.clone(), pixels.images.labels.tolist(), 32)
    assert run_identity(ONE_EPOCH, pixels, 0, None) == run_identity(replace(ONE_EPOCH), again, 0, None)
    weights, copy = Trunk(TINY_MODEL, generator(5)), Trunk(TINY_MODEL, generator(5))
    assert run_identity(ONE_EPOCH, pixels, 0, weights) == run_identity(ONE_EPOCH, pixels, 0, copy)


def test_identity_does_not_depend_on_threads_or_layout_in_memory(pixels):
    """The weights of a preset's other method come from another sitting, perhaps on another machine."""
    weights = Trunk(replace(TINY_MODEL, width=0.5), generator(5))
    config = method_config("rotnet", model=replace(TINY_MODEL, width=0.5))
    one = run_identity(config, pixels, 0, weights)
    torch.set_num_threads(2)
    two = run_identity(config, pixels, 0, weights.to(memory_format=torch.channels_last))
    torch.set_num_threads(1)
    assert one == two


def test_identity_changes_with_all_that_decides_the_numbers(pixels, monkeypatch):
    def identity(config=ONE_EPOCH, pixels=pixels, seed=0, initial=None):
        return run_identity(config, pixels, seed, initial)

    initial, moved, swapped = (Trunk(TINY_MODEL, generator(5)) for _ in range(3))
    with torch.no_grad():
        moved.features[1].running_var[0] += 1e-3
        swapped.features[0].weight.copy_(initial.features[0].weight.flip(0))  # the same numbers elsewhere
    shuffled = pixels.images.labels[::-1].copy()
    identities = {
        "itself": identity(),
        "method": identity(replace(ONE_EPOCH, method="deepercluster")),
        "learning rate": identity(replace(ONE_EPOCH, train=replace(ONE_EPOCH.train, lr=0.051))),
        "dropout": identity(replace(ONE_EPOCH, model=replace(TINY_MODEL, dropout=0.1))),
        "clusters": identity(replace(ONE_EPOCH, cluster=replace(ONE_EPOCH.cluster, n_sub=7))),
        "seed": identity(seed=1),
        "fewer images": identity(pixels=replace(pixels, images=pixels.images[:-1])),
        "other order": identity(pixels=replace(pixels, images=pixels.images[::-1])),
        "labels": identity(pixels=with_labels(pixels, shuffled)),
        "size": identity(pixels=replace(pixels, size=31)),
        "resize": identity(pixels=replace(pixels, resize=40)),
        "initial": identity(initial=initial),
        "statistics of initial": identity(initial=moved),
        "order in initial": identity(initial=swapped),
    }
    monkeypatch.setattr(start, "code_hash", lambda *rooms: "other code")
    identities["code"] = identity()
    same = [(a, b) for a in identities for b in identities if a < b and identities[a] == identities[b]]
    assert same == []


def test_identity_tells_kept_from_streamed_pixels(pixels, tmp_path):
    """Streamed crops are cut from the full image and antialiased: a run must not change over half-way."""
    images = open_images(write_pictures(tmp_path, 8))
    streamed = streamed_pixels(images)
    kept = replace(streamed, decoded=pixels.decoded[:8])
    first = {name: next(p.crop_batches([torch.arange(8)], 0.3, [1])) for name, p in (("s", streamed), ("k", kept))}
    assert not torch.equal(first["s"], first["k"])  # why it matters
    assert run_identity(ONE_EPOCH, streamed, 0, None) != run_identity(ONE_EPOCH, kept, 0, None)


def imported_modules(module: str, seen: dict[str, None]) -> dict[str, None]:
    """dclib's modules that ``module`` (such as "train/pretrain") imports, and those that they import."""
    if module not in seen:
        seen[module] = None
        for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dclib."):
                room = node.module.removeprefix("dclib.").replace(".", "/")
                for found in [room, *(f"{room}/{alias.name}" for alias in node.names)]:
                    if (PACKAGE / f"{found}.py").is_file():
                        imported_modules(found, seen)
    return seen


def test_identity_covers_the_source_of_all_that_computes(pixels, monkeypatch):
    """A module may be left out if what it decides is in the identity anyhow, or if it decides no weight."""
    asked: list[str] = []
    monkeypatch.setattr(start, "code_hash", lambda *rooms: (asked.extend(rooms), "hash")[1])
    run_identity(ONE_EPOCH, pixels, 0, None)
    assert [room for room in asked if not ((PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file())] == []
    needed = imported_modules("train/pretrain", {})
    assert {"models/vgg", "cluster/kmeans", "data/transforms", "train/state", "randomness"} <= needed.keys()
    left_out = {m for m in needed if not any(m == room or m.startswith(f"{room}/") for room in asked)}
    by_value = {"config"}  # settings; the loaders, which the images' fingerprint tells, are not imported
    no_weight = {
        "data/contents",  # its hash is in the identity
        "data/unreadable",
        "machine",
        "reading",
        "records",
        "train/chance",
        "train/checkpoints",
        "train/forming",
        "train/health",
        "train/quality",  # what health tells of features
        "preemption",
        "train/start",
    }  # files and words
    assert left_out <= by_value | no_weight
