"""The training loop: resuming, what it reads, what it resets, what it reports, what it refuses."""

import contextlib
import math
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from task_checks import assert_identical, outcome
from tiny_images import (
    CLASSES,
    TINY_MODEL,
    Interruption,
    decoded_pixels,
    interrupt_at,
    labelled,
    method_config,
    picture_tensor,
    silent,
    streamed_pixels,
    with_labels,
    write_pictures,
)
from torch.utils._python_dispatch import TorchDispatchMode

from dclib.data.images import ImageSet
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels
from dclib.models.heads import Heads
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train import pretrain as loop
from dclib.train import start
from dclib.train.checkpoints import Saver
from dclib.train.pretrain import pretrain
from dclib.train.state import State
from dclib.train.tasks import classes
from dclib.train.tasks.classes import Classes

N = 64  # pictures
NEVER = 1e9  # seconds between checkpoints inside an epoch
LEARNED_BY_ITSELF = ("rotnet", "deepcluster", "deepercluster")
DROPOUT = replace(TINY_MODEL, dropout=0.3)
# two epochs of three steps, a clustering before each, both levels, every source of randomness
FULL = method_config("deepercluster", model=DROPOUT, cluster={"n_super": 2}, train={"decay_from": 0.5})


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), N)


@pytest.fixture(scope="module")
def images(pictures: Path) -> ImageSet:
    return open_images(pictures)


@pytest.fixture(scope="module")
def pixels(images: ImageSet) -> Pixels:
    return decoded_pixels(images)


@pytest.fixture(scope="module")
def streamed(images: ImageSet) -> Pixels:
    return streamed_pixels(images)


@pytest.fixture(scope="module")
def full_run(pixels: Pixels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the run of FULL ends with when nothing happens to it."""
    return outcome(pretrain(pixels, FULL, folder=tmp_path_factory.mktemp("full"), report=silent))


def weights(state: State) -> dict[str, torch.Tensor]:
    return {**state.trunk.state_dict(), **{f"heads.{k}": v for k, v in state.task.head.state_dict().items()}}


def saved_state(folder: Path) -> dict[str, object]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)["state"]


# --- a killed run ends as if nothing had happened


@pytest.mark.parametrize(
    ("stop", "count", "save_every"),
    [
        ("train_step", 0, 0.0),  # before the first step
        ("train_step", 2, 0.0),  # inside the first epoch, with a checkpoint after each step
        ("train_step", 2, NEVER),  # the same, without: the epoch starts over
        ("train_step", 4, 0.0),  # inside the second epoch
        ("cluster_images", 1, 0.0),  # between an epoch and the clustering after it
        ("plan_epoch", 1, NEVER),  # right after a clustering and its checkpoint
        ("finish_epoch", 1, 0.0),  # after the last step, before the epoch is closed
    ],
)
def test_interrupted_run_ends_with_the_same_bits(pixels, full_run, tmp_path, monkeypatch, stop, count, save_every):
    with monkeypatch.context() as patch:
        where = loop if hasattr(loop, stop) else classes
        patch.setattr(where, stop, interrupt_at(count, getattr(where, stop)))
        with pytest.raises(Interruption):
            pretrain(pixels, FULL, folder=tmp_path, save_every=save_every, report=silent)
    resumed = pretrain(pixels, FULL, folder=tmp_path, save_every=save_every, report=silent)
    assert_identical(outcome(resumed), full_run)


def test_run_stopped_again_and_again_ends_with_the_same_bits(pixels, full_run, tmp_path):
    """Each sitting ends at its first or second line of report: at a clustering, or at the end of an epoch."""
    state, sittings = None, 0
    while state is None and sittings < 20:
        sittings += 1
        with contextlib.suppress(Interruption):
            state = pretrain(pixels, FULL, folder=tmp_path, report=interrupt_at(1, silent), save_every=NEVER)
    assert sittings > 2
    assert_identical(outcome(state), full_run)


def test_checkpoint_that_fails_to_be_written_costs_nothing_but_time(pixels, full_run, tmp_path, monkeypatch):
    for count in (1, 3, 2):  # counted anew in each sitting
        with monkeypatch.context() as patch:
            patch.setattr(Saver, "save", interrupt_at(count, Saver.save))
            with pytest.raises(Interruption):
                pretrain(pixels, FULL, folder=tmp_path, save_every=0.0, report=silent)
    assert_identical(outcome(pretrain(pixels, FULL, folder=tmp_path, report=silent)), full_run)


@pytest.mark.parametrize(("method", "dropout"), [("rotnet", 0.5), ("deepcluster", 0.5)])
def test_streamed_images_with_dropout_resume_inside_an_epoch(streamed, tmp_path, monkeypatch, method, dropout):
    """Nothing but dropout may draw from the global generator: a draw by the loader would shift it on a restart."""
    config = method_config(method, model=replace(TINY_MODEL, dropout=dropout))
    expected = outcome(pretrain(streamed, config, folder=tmp_path / "whole", report=silent))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupt_at(4, loop.train_step))
        with pytest.raises(Interruption):
            pretrain(streamed, config, folder=tmp_path / "cut", save_every=0.0, report=silent)
    resumed = pretrain(streamed, config, folder=tmp_path / "cut", save_every=0.0, report=silent)
    assert_identical(outcome(resumed), expected)


def test_checkpoint_due_between_two_looks_loses_no_loss(pixels, full_run, tmp_path, monkeypatch):
    """The clock may pass the mark at any instant, also between two readings of it in one step."""

    class Flickering(Saver):
        readings = 0

        @property
        def is_due(self) -> bool:
            self.readings += 1
            return self.readings % 2 == 0

    monkeypatch.setattr(loop, "Saver", Flickering)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupt_at(2, loop.train_step))
        with pytest.raises(Interruption):
            pretrain(pixels, FULL, folder=tmp_path, report=silent)
    assert_identical(outcome(pretrain(pixels, FULL, folder=tmp_path, report=silent)), full_run)


CHILD = """
import sys, time
import torch
from tiny_images import decoded_pixels, silent
from test_pretrain import FULL
from dclib.data.layouts import open_images
from dclib.train import pretrain as loop
from dclib.train import start
torch.set_num_threads(1)
start.code_hash = lambda *rooms: sys.argv[3]  # the parent's, should somebody edit the source just now
step, begun = loop.train_step, []
def told_step(*arguments):
    begun.append(time.sleep(0.1))
    print("step", flush=True)
    if len(begun) == 6:
        time.sleep(600)  # the last one never ends, however late the kill
    return step(*arguments)
loop.train_step = told_step
loop.pretrain(decoded_pixels(open_images(sys.argv[1])), FULL, folder=sys.argv[2], save_every=0.0, report=silent)
"""


def test_process_killed_outright_resumes_with_the_same_bits(pixels, pictures, full_run, tmp_path):
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CHILD,
            str(pictures),
            str(tmp_path),
            start.code_hash(*start.ROOMS, *start.own_rooms(FULL)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        for _ in range(5):  # the fifth of six steps has begun
            assert child.stdout.readline() == "step\n"
        time.sleep(0.02)  # somewhere in that step, in its checkpoint, or later
        child.kill()
    assert child.returncode == -9
    assert saved_state(tmp_path)["epoch"] == 1
    resumed = pretrain(pixels, FULL, folder=tmp_path, save_every=0.0, report=silent)
    assert_identical(outcome(resumed), full_run)


def test_finished_run_returns_at_once(pixels, full_run, tmp_path, monkeypatch):
    pretrain(pixels, FULL, folder=tmp_path, report=silent)
    before = (tmp_path / "checkpoint.pt").stat()
    monkeypatch.setattr(loop, "train_step", interrupt_at(0, silent))
    for call in ("cluster_images", "plan_epoch"):
        monkeypatch.setattr(classes, call, interrupt_at(0, silent))
    lines: list[str] = []
    again = pretrain(pixels, FULL, folder=tmp_path, report=lines.append)
    after = (tmp_path / "checkpoint.pt").stat()
    assert_identical(outcome(again), full_run)
    assert lines == []
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert not again.trunk.training


# --- what decides the result


@pytest.mark.parametrize("kind", ["pixels", "streamed"])
def test_random_state_of_the_caller_is_untouched(request, tmp_path, kind):
    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())]  # noqa: NPY002

    before = states()
    config = method_config("deepercluster", model=DROPOUT, train={"epochs": 1})
    pretrain(request.getfixturevalue(kind), config, folder=tmp_path, report=silent)
    assert states() == before


def test_random_state_of_the_caller_does_not_matter(pixels, full_run, tmp_path):
    torch.manual_seed(12345)
    assert_identical(outcome(pretrain(pixels, FULL, folder=tmp_path, report=silent)), full_run)


def test_seed_decides_the_result(pixels, full_run, tmp_path):
    other = pretrain(pixels, FULL, folder=tmp_path, seed=1, report=silent)
    for name, tensor in full_run["trunk"].items():
        if name.endswith("weight"):
            assert not torch.equal(other.trunk.state_dict()[name], tensor), name
    assert not torch.equal(other.task.labels.sub_class, full_run["task"]["sub_class"])


@pytest.mark.parametrize("method", LEARNED_BY_ITSELF)
def test_labels_are_never_trained_on(pixels, tmp_path, method):
    shuffled = np.random.default_rng(0).permutation(pixels.images.labels)
    assert (shuffled != pixels.images.labels).any()
    config = method_config(method, cluster={"n_super": 2} if method == "deepercluster" else None)
    runs = {
        name: pretrain(with_labels(pixels, labels), config, folder=tmp_path / name, report=silent)
        for name, labels in [("own", pixels.images.labels), ("shuffled", shuffled), ("none", None)]
    }
    for name in ("shuffled", "none"):
        assert_identical(weights(runs[name]), weights(runs["own"]), name)
    shown = {name: any("nmi_labels" in row for row in run.history) for name, run in runs.items()}
    assert shown == dict.fromkeys(("own", "shuffled"), method != "rotnet") | {"none": False}


def test_supervised_training_does_read_them(pixels, tmp_path):
    config = method_config("supervised", train={"epochs": 1})
    shuffled = np.random.default_rng(0).permutation(pixels.images.labels)
    one = pretrain(pixels, config, folder=tmp_path / "own", report=silent)
    two = pretrain(with_labels(pixels, shuffled), config, folder=tmp_path / "other", report=silent)
    assert not torch.equal(one.trunk.classifier[3].weight, two.trunk.classifier[3].weight)


def test_initial_weights_are_the_start_and_stay_as_they_are(pixels, tmp_path, monkeypatch):
    initial = Trunk(TINY_MODEL, generator(99))
    initial.features[1].running_mean += 0.25  # batch norm's statistics belong to the weights
    before = {name: tensor.clone() for name, tensor in initial.state_dict().items()}
    monkeypatch.setattr(classes, "plan_epoch", interrupt_at(0, silent))
    with pytest.raises(Interruption):
        pretrain(pixels, method_config("rotnet"), folder=tmp_path, initial=initial, report=silent)
    assert_identical(saved_state(tmp_path)["trunk"], before)
    monkeypatch.undo()
    trained = pretrain(pixels, method_config("rotnet"), folder=tmp_path, initial=initial, report=silent)
    assert_identical(dict(initial.state_dict()), before)
    assert not torch.equal(trained.trunk.features[0].weight, before["features.0.weight"])


def test_folder_of_images_and_its_pixels_train_alike(images, tmp_path):
    """36.57 is the paper's 256 / 224 for 32 pixels; a set is brought to 37 by the loop itself."""
    config = method_config("rotnet", train={"epochs": 1})
    one = pretrain(images, config, folder=tmp_path / "images", report=silent)
    two = pretrain(decoded_pixels(images, resize=37), config, folder=tmp_path / "pixels", report=silent)
    assert_identical(weights(one), weights(two))


# --- what is learned and recorded


@pytest.mark.parametrize(
    ("method", "n_super", "tasks", "chance"),
    [
        ("rotnet", 1, {"turn": 4}, math.log(4)),
        ("deepcluster", 1, {"sub": 6}, math.log(6)),
        ("deepercluster", 1, {"turn": 4, "sub": 6}, math.log(4 * 6)),
        ("deepercluster", 2, {"turn": 4, "super": 8, "sub": 6}, math.log(8 * 6)),
        ("supervised", 1, {"train": 4}, math.log(4)),
    ],
)
def test_history_has_what_the_method_has(pixels, tmp_path, method, n_super, tasks, chance):
    config = method_config(method, cluster={"n_super": n_super})
    told = {f"{task}_{what}" for task in tasks for what in ("accuracy", "chance")}
    lines: list[str] = []
    state = pretrain(pixels, config, folder=tmp_path, report=lines.append)
    epochs = [row for row in state.history if "assignment" not in row]
    clusterings = [row for row in state.history if "assignment" in row]
    assert [row["epoch"] for row in epochs] == [1, 2]
    for row in epochs:
        assert row.keys() == {"epoch", "chance_loss", "loss", "lr", "images_per_second", "data_wait"} | told
        assert row["chance_loss"] == pytest.approx(chance, rel=1e-12)
        assert 0.3 * chance < row["loss"] < 2 * chance  # nats, near chance in so few steps
        assert all(0 <= row[name] <= 100 for name in told)
        assert {task: row[f"{task}_chance"] for task in tasks} == pytest.approx({t: 100 / k for t, k in tasks.items()})
        assert row["images_per_second"] > 0
        assert 0 < row["data_wait"] < 48 / row["images_per_second"]  # of the seconds of its 48 images
    assert [(row["assignment"], row["epoch"]) for row in clusterings] == ([(0, 0), (1, 1)] if config.clusters else [])
    assert ["nmi_previous" in row for row in clusterings] == ([False, True] if config.clusters else [])
    assert all({"nmi_labels", "ami_labels", "inertia", "empty_clusters"} <= row.keys() for row in clusterings)
    assert state.notes == ({"kmeans_backend": "torch", "pca_dim": "8"} if config.clusters else {})
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert sum(line.startswith("clustering ") for line in lines) == len(clusterings)


def test_recorded_loss_and_accuracies_are_means_over_the_images_shown(pixels, tmp_path, monkeypatch):
    shown = []
    step = loop.train_step

    def record(state, batch, plan, number, config):
        values = step(state, batch, plan, number, config)
        shown.append([float(v) for v in values] + [len(batch[0])])
        return values

    monkeypatch.setattr(loop, "train_step", record)
    state = pretrain(pixels, FULL, folder=tmp_path, report=silent)
    for epoch, row in enumerate(row for row in state.history if "assignment" not in row):
        steps = shown[3 * epoch : 3 * epoch + 3]
        images_shown = sum(s[4] for s in steps)
        assert images_shown == 48
        assert row["loss"] == pytest.approx(sum(s[0] for s in steps) / 3, rel=1e-12)
        for place, task in ((1, "super"), (2, "sub"), (3, "turn")):
            expected = 100 * sum(s[place] for s in steps) / images_shown
            assert row[f"{task}_accuracy"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "every", "until", "expected"),
    [
        (6, 1, 1.0, [0, 1, 2, 3, 4, 5]),
        (6, 2, 1.0, [0, 2, 4]),
        (7, 3, 1.0, [0, 3, 6]),
        (8, 2, 0.75, [0, 2, 4]),  # 6 of 8 are over at epoch 6
        (5, 1, 0.5, [0, 1, 2]),  # 2.5 epochs are over within epoch 2
        (4, 1, 0.01, [0]),  # the first is always made
        (4, 9, 1.0, [0]),
        (100, 1, 0.55, list(range(55))),  # 0.55 * 100 is a little above 55 in binary
        (100, 1, 0.29, list(range(29))),  # and 0.29 * 100 a little below 29
    ],
)
def test_clustering_is_due_at_the_epochs_of_the_rule(pixels, epochs, every, until, expected):
    config = method_config(
        "deepercluster", cluster={"reassign_every": every, "reassign_until": until}, train={"epochs": epochs}
    )
    task = Classes(config, pixels, 0, torch.device("cpu"))
    state, due = SimpleNamespace(epoch=0, step=0, clustered_at=-1), []
    for state.epoch in range(epochs):
        state.step = 1
        assert not task.is_due(state)  # never inside an epoch
        state.step = 0
        if task.is_due(state):
            due.append(state.epoch)
            state.clustered_at = state.epoch
            assert not task.is_due(state)  # nor twice
    assert due == expected


@pytest.mark.parametrize(("every", "until", "expected"), [(2, 1.0, [0, 2, 4]), (1, 0.5, [0, 1, 2])])
def test_run_clusters_at_the_epochs_of_the_rule(pixels, tmp_path, every, until, expected):
    config = method_config(
        "deepcluster",
        cluster={"reassign_every": every, "reassign_until": until},
        train={"epochs": 5, "epoch_images": 16},
    )
    state = pretrain(pixels, config, folder=tmp_path, report=silent)
    assert [row["epoch"] for row in state.history if "assignment" in row] == expected
    assert state.clusterings == len(expected)


@pytest.mark.parametrize("n_super", [1, 2])
def test_clustering_renews_the_heads_whose_classes_change(pixels, tmp_path, monkeypatch, n_super):
    """Sub-class heads and their momentum always; those of the super-class if there are several super-clusters."""
    renew, looks = Classes.renew, []

    def look(state: State) -> dict[str, object]:
        heads = {name: tensor.clone() for name, tensor in state.task.head.state_dict().items()}
        momentum = {
            part: {i: s["momentum_buffer"].clone() for i, s in optimiser.state_dict()["state"].items()}
            for part, optimiser in state.optimisers.items()
        }
        return {"heads": heads, "momentum": momentum, "trunk": {k: v.clone() for k, v in weights_of_trunk(state)}}

    def weights_of_trunk(state: State):
        return state.trunk.state_dict().items()

    def watched(task, state, *rest):
        before = look(state)
        renew(task, state, *rest)
        looks.append((before, look(state)))

    monkeypatch.setattr(Classes, "renew", watched)
    config = method_config("deepercluster", cluster={"n_super": n_super})
    pretrain(pixels, config, folder=tmp_path, report=silent)
    before, after = looks[1]
    assert_identical(after["trunk"], before["trunk"])
    assert before["momentum"]["trunk"]
    assert_identical(after["momentum"]["trunk"], before["momentum"]["trunk"])
    for name in ("sub_weight", "sub_bias"):
        assert (after["heads"][name] != before["heads"][name]).all()
    assert len(before["momentum"]["sub"]) == 2
    assert after["momentum"]["sub"] == {}
    for name in ("super_weight", "super_bias"):
        changed = after["heads"][name] != before["heads"][name]
        assert bool(changed.all()) if n_super > 1 else not bool(changed.any())
    assert len(before["momentum"]["super"]) == 2
    assert len(after["momentum"]["super"]) == (0 if n_super > 1 else 2)
    if n_super == 1:
        assert_identical(after["momentum"]["super"], before["momentum"]["super"])
    # the new weights follow the law of a new linear layer with 16 inputs: uniform in +-1/4
    drawn = after["heads"]["sub_weight"]
    assert drawn.abs().max() <= 0.25
    assert drawn.abs().max() > 0.24
    # a second clustering draws other heads than the first
    assert not torch.equal(looks[0][1]["heads"]["sub_weight"], drawn)


def test_each_batch_shows_every_super_class_equally(pixels, tmp_path, monkeypatch):
    shares, turn = [], classes.quarter_turn

    def count(batch, turns):
        shares.append(torch.bincount(turns, minlength=4).tolist())
        return turn(batch, turns)

    monkeypatch.setattr(classes, "quarter_turn", count)
    pretrain(pixels, method_config("rotnet", train={"epochs": 1}), folder=tmp_path, report=silent)
    assert shares == [[4, 4, 4, 4]] * 3


def test_each_batch_has_crops_of_its_own(pixels, tmp_path, monkeypatch):
    crop_batches, seeds, rows = Pixels.crop_batches, [], []

    def watched(self, batches, area, drawn, places):
        seeds.extend(drawn)
        rows.extend(tuple(batch.tolist()) for batch in batches)
        assert area == 0.5  # what the settings say
        return crop_batches(self, batches, area, drawn, places)

    monkeypatch.setattr(Pixels, "crop_batches", watched)
    pretrain(pixels, method_config("rotnet"), folder=tmp_path, report=silent)
    assert len(set(seeds)) == len(seeds) == 6
    assert len(set(rows)) == 6


def test_classes_that_can_be_seen_are_learned(tmp_path):
    kinds = [CLASSES[i % 4] for i in range(64)]
    pixels = labelled(picture_tensor(kinds), [CLASSES.index(k) for k in kinds], 32)
    train = {"epochs": 6, "epoch_images": 256, "lr": 0.025, "decay_from": 0.5}
    state = pretrain(pixels, method_config("supervised", train=train), folder=tmp_path, report=silent)
    assert state.history[-1]["train_accuracy"] > 90  # chance is 25
    assert state.history[-1]["loss"] < 0.5 * math.log(4)


def test_turns_that_can_be_seen_are_learned(tmp_path):
    kinds = [CLASSES[i % 4] for i in range(64)]
    pixels = labelled(picture_tensor(kinds), [0] * 64, 32)
    train = {"epochs": 6, "epoch_images": 256, "lr": 0.05, "decay_from": 0.5}
    lines: list[str] = []
    state = pretrain(pixels, method_config("rotnet", train=train), folder=tmp_path, report=lines.append)
    assert state.history[-1]["turn_accuracy"] > 60  # chance is 25
    assert "WARNING" not in lines[-1]


@pytest.mark.parametrize(
    ("decay_from", "final_lr", "expected"),
    [
        (1.0, 0.2, [0.1] * 12),
        # steps 0-6 of 12 are constant; then 0.1 * (1 - 0.8 * (step - 6) / 6): step 9 has lost 0.04
        (0.5, 0.2, [0.1] * 7 + [0.1 - 0.08 * i / 6 for i in range(1, 6)]),
        (0.0, 0.0, [0.1 * (1 - i / 12) for i in range(12)]),
        (0.75, 1.0, [0.1] * 12),
    ],
)
def test_learning_rate_follows_the_schedule(pixels, tmp_path, monkeypatch, decay_from, final_lr, expected):
    rates: list[list[float]] = []

    def record(state, *_):
        rates.append([optimiser.param_groups[0]["lr"] for optimiser in state.optimisers.values()])
        return torch.zeros(4)

    monkeypatch.setattr(loop, "train_step", record)
    schedule = {"epochs": 4, "lr": 0.1, "decay_from": decay_from, "final_lr": final_lr}
    state = pretrain(pixels, method_config("deepcluster", train=schedule), folder=tmp_path, report=silent)
    assert [len(set(step)) for step in rates] == [1] * 12  # trunk and both heads alike
    assert [step[0] for step in rates] == pytest.approx(expected, rel=1e-9)
    epochs = [row for row in state.history if "assignment" not in row]
    assert [row["lr"] for row in epochs] == pytest.approx(expected[2::3], rel=1e-9)


# --- a loss that is no number


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("save_every", "saved_step"), [(0.0, 1), (NEVER, 0)])
def test_loss_that_is_not_finite_stops_the_run_with_its_step(
    pixels, full_run, tmp_path, monkeypatch, bad, save_every, saved_step
):
    joint_loss, calls = classes.joint_loss, [0]

    def spoiled(*arguments, **options):
        calls[0] += 1
        result = joint_loss(*arguments, **options)
        return replace(result, loss=result.loss * bad) if calls[0] == 5 else result

    with monkeypatch.context() as patch:
        patch.setattr(classes, "joint_loss", spoiled)
        with pytest.raises(FloatingPointError, match=f"{bad} at step 2 of epoch 2.*lr"):
            pretrain(pixels, FULL, folder=tmp_path, save_every=save_every, report=silent)
    saved = saved_state(tmp_path)
    assert (saved["epoch"], saved["step"]) == (1, saved_step)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved["trunk"].values())
    assert_identical(outcome(pretrain(pixels, FULL, folder=tmp_path, report=silent)), full_run)


def test_learning_rate_far_too_high_stops_the_run(pixels, tmp_path):
    config = method_config("rotnet", train={"lr": 1e20})
    with pytest.raises(FloatingPointError, match="step [123] of epoch 1; lower train.lr"):
        pretrain(pixels, config, folder=tmp_path, report=silent)


def test_weights_that_overflow_at_the_end_of_an_epoch_are_no_clustering(pixels, tmp_path):
    config = method_config("deepcluster", train={"lr": 1e30, "epoch_images": 16})
    with pytest.raises((FloatingPointError, ValueError), match="finite|train.lr"):
        pretrain(pixels, config, folder=tmp_path, report=silent)


# --- what is refused, before anything is computed or written


def first(pixels: Pixels, n: int) -> Pixels:
    return replace(pixels, images=pixels.images[:n], decoded=pixels.decoded[:n])


@pytest.mark.parametrize(
    ("config", "change", "sentence"),
    [
        (method_config("deepcluster", cluster={"n_sub": 65}), None, r"65 clusters\s+for 64 images; set cluster.n_sub"),
        (method_config("deepercluster", cluster={"n_super": 11}), None, r"11 x 6 = 66 clusters"),
        (method_config("rotnet"), lambda p: first(p, 1), "at least 2 images.*got 1"),
        (method_config("rotnet"), lambda p: first(p, 0), "at least 2 images.*got 0"),
        (method_config("supervised"), lambda p: with_labels(p, None), "at least two classes.*one folder per class"),
        (method_config("supervised"), lambda p: with_labels(p, 0 * p.images.labels), "at least two classes"),
        (method_config("random"), None, "random"),
    ],
)
@pytest.mark.parametrize("kind", ["images", "pixels"])
def test_bad_input_is_refused_and_leaves_nothing(images, pixels, tmp_path, config, change, sentence, kind):
    changed = pixels if change is None else change(pixels)
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=sentence):
        pretrain(changed if kind == "pixels" else changed.images, config, folder=folder, report=silent)
    assert not folder.exists()


def test_too_few_readable_images_are_refused_before_training(tmp_path, monkeypatch):
    """150 names and 149 pictures for 150 clusters: what counts is what can be read."""
    folder = write_pictures(tmp_path / "pictures", 150)
    (folder / "disc" / "001.png").write_bytes(b"no picture")
    monkeypatch.setattr(classes, "cluster_images", interrupt_at(0, silent))
    config = method_config("deepcluster", cluster={"n_sub": 150})
    with pytest.raises(ValueError, match="150 clusters for 149 images"):
        pretrain(open_images(folder), config, folder=tmp_path / "run", report=silent)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_initial_weights_of_another_network_are_refused(pixels, tmp_path):
    for other in (replace(TINY_MODEL, stem="rgb"), replace(TINY_MODEL, width=1 / 8), replace(TINY_MODEL, hidden_dim=8)):
        with pytest.raises(ValueError, match="initial|start from|model"):
            pretrain(
                pixels,
                method_config("rotnet"),
                folder=tmp_path / "run",
                initial=Trunk(other, generator(0)),
                report=silent,
            )
    assert not (tmp_path / "run").exists()
    # dropout has no weights: RotNet's 0.3 may start a network with 0.5
    config = method_config("rotnet", train={"epochs": 1, "epoch_images": 16})
    pretrain(pixels, config, folder=tmp_path / "run", initial=Trunk(DROPOUT, generator(0)), report=silent)


def test_checkpoint_of_another_configuration_is_refused_and_kept(pixels, tmp_path):
    config = method_config("rotnet", train={"epochs": 1, "epoch_images": 16})
    pretrain(pixels, config, folder=tmp_path, report=silent)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="belongs to another configuration.*another folder, or delete it"):
        pretrain(pixels, config, folder=tmp_path, seed=1, report=silent)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("size", range(28, 34))
def test_every_image_size_that_is_accepted_makes_a_network(size):
    """Five poolings of (size + 2) pixels must leave one: 28 and 29 leave none."""
    if size < 30:
        with pytest.raises(ValueError, match="image_size"):
            replace(TINY_MODEL, image_size=size)
        return
    trunk = Trunk(replace(TINY_MODEL, image_size=size), generator(0))
    assert trunk(torch.rand(2, 3, size, size)).shape == (2, 16)


# --- where there is a GPU


class SameDevice(TorchDispatchMode):
    """Lets an operator draw only where its generator is, as CUDA does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        source = (kwargs or {}).get("generator")
        if source is not None:
            assert source.device.type == args[0].device.type, f"{func}: a {source.device} generator, {args[0].device}"
        return func(*args, **(kwargs or {}))


def test_heads_on_another_device_are_drawn_where_the_generator_is():
    """The meta device stands for a GPU: what is on it cannot be drawn with a generator of the CPU."""
    heads = Heads(16, 8, 6, generator(0)).to("meta")
    with SameDevice():
        heads.reset(generator(1), super_head=True)
        heads.reset(generator(1), super_head=False)
    assert {parameter.device.type for parameter in heads.parameters()} == {"meta"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["rotnet", "deepercluster"])
def test_run_on_a_gpu_resumes_and_begins_like_one_on_the_cpu(pixels, tmp_path, monkeypatch, method):
    config = method_config(method, train={"epoch_images": 16})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupt_at(1, loop.train_step))
        with pytest.raises(Interruption):
            pretrain(pixels, config, folder=tmp_path / "gpu", device="cuda", report=silent)
    state = pretrain(pixels, config, folder=tmp_path / "gpu", device="cuda", report=silent)
    cpu = pretrain(pixels, config, folder=tmp_path / "cpu", report=silent)
    losses = [[row["loss"] for row in run.history if "loss" in row] for run in (state, cpu)]
    # one step each; the first loss differs by the rounding of float32 and TF32 sums alone
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-2)
    assert next(state.trunk.parameters()).is_cuda
