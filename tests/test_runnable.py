"""Which methods a folder of images is enough for, in the plan of a book and in a notebook run by itself."""

from __future__ import annotations

import io
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from notebook_cells import run_notebook
from PIL import Image
from test_metadata_table import line_with, write_lines
from test_voc_classification import voc_folder
from tiny_images import NoReader, write_pictures

from dclib.__main__ import main
from dclib.data.images import ImageSet
from dclib.data.unreadable import SAMPLE, unreadable_fault
from dclib.presets import parse_preset
from dclib.press.stages import plan_with_outlook, stage_parts
from dclib.press.status import absent_page
from dclib.records import read_records
from dclib.train import runnable
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


def outlook_of(root: Path, **data: Any) -> Outlook:
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


def cut(folder: Path, share: float) -> None:
    """Every so many-th picture below a folder as it is after a copy that was broken off."""
    pictures = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
    for path in pictures[:: round(1 / share)]:
        path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("folder", "pages"),
    [
        ("val", {*PROBES}),
        ("train", {*PROBES, "pretraining_supervised", "pretraining_from_labels", "pretraining_rotnet_curated"}),
        ("VOC2007", {"voc"}),
        ("paris6k", {"retrieval"}),
    ],
)
def test_too_many_unreadable_images_are_told_before_anything_runs(tmp_path: Path, folder: str, pages: set[str]) -> None:
    write_pictures(tmp_path / "photos", 16, flat=True)
    sorted_pictures(tmp_path)
    cities(tmp_path, "oxford5k", "paris6k")
    for split in ("trainval", "test"):
        voc_folder(tmp_path / "VOC2007", 12, split=split)
    assert set(outlook_of(tmp_path, pool="photos").left_out) == {"hashtags", "metadata"}
    cut(tmp_path / folder, 0.5)
    outlook = outlook_of(tmp_path, pool="photos", max_unreadable=0.3)
    told = {page: why for page, why in outlook.left_out.items() if "unreadable (50.0%), more than the 30.0%" in why}
    assert set(told) == pages
    assert set(outlook.left_out) == {*pages, "hashtags", "metadata"}
    cut(tmp_path / "photos", 0.5)
    with pytest.raises(ValueError, match=r"8 of 16 images of pool are unreadable .*; the first: 000"):
        outlook_of(tmp_path, pool="photos", max_unreadable=0.3)


class SomeUnreadable(NoReader):
    """Images by number, of which those given do not decode."""

    def __init__(self, bad: set[str]) -> None:
        self.bad, self.read_so_far = bad, 0
        buffer = io.BytesIO()
        Image.new("L", (2, 2)).save(buffer, "png")
        self.content = buffer.getvalue()

    def read(self, image_id: str) -> bytes:
        self.read_so_far += 1
        return b"" if image_id in self.bad else self.content


@pytest.mark.parametrize(
    ("n", "every", "limit", "said"),
    [
        (300, 100, 0.01, ""),  # looked at whole: as many as are allowed
        (300, 75, 0.01, "4 of 300 images of many are unreadable (1.3%)"),
        (9000, 50, 0.01, ""),  # 2 % of a sample is no proof
        (9000, 10, 0.01, "images of many, 400 of 9,000 looked at, are unreadable ("),
        (9000, 9000, 0.0, ""),  # one, and not of the sample
        (9000, 1, 0.99, "400 of 400 images of many, 400 of 9,000 looked at, are unreadable (100.0%)"),
    ],
)
def test_a_look_at_some_images_refuses_what_is_beyond_chance(n: int, every: int, limit: float, said: str) -> None:
    ids = [f"{i:05d}" for i in range(n)]
    order = np.random.default_rng(0).permutation(n)  # no pattern that a sample could share
    reader = SomeUnreadable({ids[i] for i in order[: n // every]})
    assert said in unreadable_fault(ImageSet("many", ids, reader), limit)
    assert bool(unreadable_fault(ImageSet("many", ids, reader), limit)) == bool(said)
    assert reader.read_so_far <= 2 * SAMPLE + 1


def test_a_metadata_table_that_spoils_further_down_is_told_before_anything_runs(tmp_path: Path, monkeypatch) -> None:
    write_pictures(tmp_path, 16, flat=True)
    lines = [line_with({0: str(number)}) for number in range(400)]
    table = write_lines(tmp_path / "yfcc100m_dataset", lines)
    assert not {"hashtags", "metadata"} & set(outlook_of(tmp_path).left_out)
    write_lines(table, [*lines[:390], *("cut\tshort" for _ in range(10))])
    assert "10 of 400 lines" in outlook_of(tmp_path).left_out["hashtags"]
    assert "line 391" in outlook_of(tmp_path).left_out["metadata"]
    monkeypatch.setattr(runnable, "SMALL_TABLE", 1000)  # of a large one the top is read: its share is not known
    assert not {"hashtags", "metadata"} & set(outlook_of(tmp_path).left_out)


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
        settings = {"cluster.n_sub": 2, "methods.deepercluster_hierarchy.cluster.n_sub": 2, "data.max_unreadable": 0.2}
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
