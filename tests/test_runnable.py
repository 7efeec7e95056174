"""Which methods a folder of images is enough for, in the plan of a book and in a notebook run by itself."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from notebook_cells import run_notebook
from test_voc_classification import voc_folder
from tiny_images import write_pictures

from dclib.__main__ import main
from dclib.presets import parse_preset
from dclib.press.site import absent_page
from dclib.press.stages import plan_with_outlook, stage_parts
from dclib.records import read_records
from dclib.train.runnable import Outlook, look_ahead, runnable_methods

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS: dict[str, Any] = {
    "random": None,
    "supervised": None,
    "rotnet_curated": {"method": "rotnet", "images": "objects"},
    "from_labels": {"method": "rotnet", "init": "supervised"},
    "rotnet": None,
}


def named(root: str, **data: str) -> tuple[str, ...]:
    sections = {"root": root, "pool": "train|.", "objects_train": "train|", **data}
    return runnable_methods(parse_preset("tiny", {"methods": METHODS, "data": sections}))


def test_what_learns_from_labels_is_left_out_where_there_are_none(tmp_path: Path) -> None:
    """With ``images: objects``, and by way of ``init``, too."""
    write_pictures(tmp_path / "flat", 4, flat=True)
    write_pictures(tmp_path / "sorted" / "train", 4)
    assert named(str(tmp_path / "flat")) == ("random", "rotnet")
    assert named(str(tmp_path / "sorted")) == tuple(METHODS)
    assert named("") == tuple(METHODS)  # the pocket world
    with pytest.raises(ValueError, match=r"no images for data\.objects_train: looked in"):
        named(str(tmp_path / "flat"), objects_train="train")


PROBES = ("linear_probes", "finetuning")


def outlook_of(root: Path, **data: str) -> Outlook:
    sections = {"root": str(root), "pool": "train|.", "objects_train": "train|", "objects_test": "val|test|", **data}
    settings = {"methods": METHODS, "data": {"scenes_train": "", "scenes_test": "", **sections}}
    return look_ahead(parse_preset("tiny", settings))


def sorted_pictures(root: Path) -> Path:
    write_pictures(root / "train", 16)
    write_pictures(root / "val", 8)
    return root


def cities(root: Path, *names: str) -> None:
    for city in names:
        write_pictures(root / city / "jpg", 6, flat=True)
        for kind, text in (("query", "000 1 1 30 30"), ("good", "000\n001"), ("ok", ""), ("junk", "002")):
            (root / city / f"hall_1_{kind}.txt").write_text(text)


def take_a_class(root: Path) -> None:
    shutil.rmtree(root / "val" / "disc")
    (root / "val" / "disc").mkdir()


def flatten(root: Path, split: str) -> None:
    shutil.rmtree(root / split)
    write_pictures(root / split, 8, flat=True)


def empty(root: Path) -> None:
    shutil.rmtree(root / "val")
    (root / "val").mkdir()


def cut_archive(root: Path) -> None:
    shutil.rmtree(root / "val")
    (root / "val.tar").write_bytes(b"no tar")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (take_a_class, "train has 4 classes and val 3, and in one of them only there are disc"),
        (partial(flatten, split="val"), "val has no class folders"),
        (partial(flatten, split="train"), "train has no class folders"),
        (lambda root: shutil.move(root / "val" / "disc", root / "val" / "puck"), "only there are disc, puck"),
        (lambda root: shutil.rmtree(root / "val"), "there are images for train and none for test"),
        (empty, "no images in .*val"),
        (cut_archive, r"need an uncompressed, complete tar of images, got .*val\.tar"),
    ],
)
def test_probes_that_cannot_be_are_told_before_anything_runs(tmp_path: Path, spoil, said: str) -> None:
    """And nothing else is lost: what was asked of the labels alone is left out, the rest is planned."""
    root = sorted_pictures(tmp_path)
    assert not set(PROBES) & set(outlook_of(root).left_out)
    spoil(root)
    outlook = outlook_of(root)
    assert re.search(said, outlook.left_out["linear_probes"])
    assert outlook.left_out["linear_probes"] == outlook.left_out["finetuning"]
    unlabelled = "train has" in said and "no class" in said
    assert set(METHODS) - set(outlook.methods) == ({"supervised", "from_labels"} if unlabelled else set())
    assert sum("left out: linear_probes, finetuning" in line for line in outlook.lines) == 1


def test_litter_and_a_loose_picture_cost_nothing_and_are_told(tmp_path: Path) -> None:
    root = sorted_pictures(tmp_path)
    write_pictures(root / "val" / "#recycle", 2, flat=True)
    shutil.copy(root / "train" / "disc" / "001.png", root / "train" / "preview.png")
    outlook = outlook_of(root)
    assert not {*PROBES, "pretraining_supervised"} & set(outlook.left_out)
    assert any(line.startswith("val: ") and line.endswith(": #recycle") for line in outlook.lines)
    assert any(line.startswith("train: ") and line.endswith(": preview.png") for line in outlook.lines)


def test_half_of_an_evaluation_is_left_out_and_never_trained_on(tmp_path: Path) -> None:
    """One city of two, VOC without the labels of its test images; both below the folder that is trained on."""
    write_pictures(tmp_path, 12, flat=True)
    cities(tmp_path, "oxford5k")
    voc_folder(tmp_path / "VOC2007", 12, split="trainval")
    outlook = outlook_of(tmp_path)
    assert outlook.counts["pool"] == 12
    assert "no paris6k below" in outlook.left_out["retrieval"]
    assert "no split 'test'" in outlook.left_out["voc"]
    assert any("oxford5k" in note and "VOC2007" in note and "evaluation" in note for note in outlook.notes)
    cities(tmp_path, "paris6k")
    voc_folder(tmp_path / "VOC2007", 12, split="test")
    outlook = outlook_of(tmp_path)
    assert not {"voc", "retrieval"} & set(outlook.left_out)
    assert outlook.counts["pool"] == 12
    for path in (tmp_path / "oxford5k").glob("*.txt"):  # told by the preset's name where there is no ground truth
        path.unlink()
    outlook = outlook_of(tmp_path)
    assert outlook.counts["pool"] == 12
    assert "oxford5k" in outlook.left_out["retrieval"]


def test_more_clusters_than_images_are_refused_before_the_first_training(tmp_path: Path) -> None:
    write_pictures(tmp_path, 12, flat=True)
    methods = {"rotnet": None, "deepcluster": {"cluster": {"n_sub": 13}}}
    data = {"root": str(tmp_path), "pool": ".", **dict.fromkeys(("objects_train", "objects_test"), "")}
    data |= dict.fromkeys(("scenes_train", "scenes_test"), "")
    with pytest.raises(ValueError, match="13 clusters for 12 images"):
        look_ahead(parse_preset("tiny", {"methods": methods, "data": data}))


def test_the_plan_says_what_the_book_will_leave_out(tmp_path: Path, capsys) -> None:
    root = sorted_pictures(tmp_path)
    take_a_class(root)
    options = ["--preset", "folder", "--data", str(root), "--set", "cluster.n_sub=2"]
    options += ["--set", "methods.deepercluster_hierarchy.cluster.n_sub=2"]
    assert main(["plan", *options]) == 0
    said = capsys.readouterr().out
    settings = {"cluster.n_sub": 2, "methods.deepercluster_hierarchy.cluster.n_sub": 2}
    preset, stages, outlook = plan_with_outlook("folder", data=str(root), settings=settings)
    assert outlook.lines
    assert all(line in said for line in outlook.lines)
    costs = {stage.page: stage.cost for stage in stages}
    assert {costs[page] for page in outlook.left_out if page in costs} == {1.0}  # what is left out takes no time
    flatten(root, "train")
    assert main(["plan", "--method", "supervised", *options]) == 2
    assert "supervised cannot be trained: train has no class folders" in capsys.readouterr().err


def test_the_page_of_a_method_that_was_left_out_says_why() -> None:
    """The names in a reason are people's: no character of them is markup."""
    preset = parse_preset("tiny", {"methods": METHODS})
    page = absent_page("stages/pretraining_supervised", preset, {"pretraining_supervised": "no `{x}` in\n_$a$_"})
    assert page.endswith("not trained for this book: no \\`\\{x\\}\\` in \\_\\$a\\$\\_.\n")
    assert "has no method of that name" in absent_page("stages/pretraining_other", preset, {})


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])  # as many bytes, in place


@pytest.mark.parametrize("change", ["add", "overwrite", "relink", "listed", "listed by Windows"])
def test_pages_are_made_anew_when_what_the_loader_reads_changes(tmp_path: Path, change: str) -> None:
    disk, root = write_pictures(tmp_path / "disk", 16), tmp_path / "linked"
    root.mkdir()
    (root / "train").symlink_to(disk)
    loose = write_pictures(tmp_path / "elsewhere", 1, flat=True) / "000.png"
    if change == "listed by Windows":
        (root / "more.txt").write_bytes("..\\elsewhere\\000.png\tdisc\r\n".encode("utf-16"))
    else:
        (root / "more.txt").write_text("../elsewhere/000.png\n")

    def key() -> dict[str, str]:
        settings = {"cluster.n_sub": 2, "methods.deepercluster_hierarchy.cluster.n_sub": 2}
        preset, stages, _ = plan_with_outlook("folder", data=str(root), settings=settings)
        return stage_parts(stages[:1], preset)["data"]

    before = key()
    assert key() == before
    if change == "add":
        shutil.copy(disk / "disc" / "001.png", disk / "disc" / "new.png")
    elif change == "overwrite":
        overwrite(disk / "disc" / "001.png")
    elif change == "relink":
        other = write_pictures(tmp_path / "other", 16, seed=1)
        (root / "train").unlink()
        (root / "train").symlink_to(other)
    else:
        overwrite(loose)
    after = key()
    assert {name for name in after if after[name] != before[name]} == {"images"}


@pytest.mark.parametrize("notebook", ["03_linear_probes", "05_retrieval", "06_voc"])
def test_a_notebook_by_itself_takes_a_folder_without_labels(notebook: str, tmp_path: Path, monkeypatch) -> None:
    """As the README has it: preset folder, data photos."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    photos = write_pictures(tmp_path / "photos", 16, flat=True)
    for split in ("train", "val", "trainval", "test"):
        voc_folder(photos / "VOC2007", 12, split=split)
    cities(photos, "oxford5k", "paris6k")
    settings = {
        **{"data.resize": 36, "model.image_size": 32, "model.width": 1 / 16, "model.hidden_dim": 16},
        **{"model.feature_dim": 16, "cluster.n_sub": 2, "cluster.pca_dim": 4, "train.epochs": 1},
        **{"train.epoch_images": 16, "train.batch_size": 16, "voc.iterations": 1, "voc.batch_size": 4},
        **{"voc.test_crops": 1, "retrieval.longest_side": 72},
    }
    run_notebook(notebook, preset="folder", data=str(photos), settings=settings)
    found = {r.card.method for r in read_records(tmp_path / "runs" / "folder" / "records") if r.card}
    expected = {"random", "rotnet", "deepcluster", "deepercluster", "deepercluster_hierarchy"}
    assert found == (set() if notebook == "03_linear_probes" else expected)
