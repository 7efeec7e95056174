"""Pictures of published results: drawn where their images are, a sentence elsewhere, and never a failure."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_records import make_card

from dclib.data.images import ImageSet
from dclib.presets import parse_preset
from dclib.press.notebooks import code_of, read_notebook
from dclib.records import Record, write_records
from dclib.report import colour, exhibits, gradients, metadata, pictures, retrieval, tables
from dclib.train.absent import AbsentSet, lacks_images
from dclib.train.runnable import runnable_methods
from dclib.train.shown import sets_to_show

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"deepercluster": {"method": "deepercluster"}, "supervised": {"method": "supervised"}}
NAMES = [f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(9)]


def preset_of(root: str, train: str = "train"):
    data = {"root": root, "pool": train, "objects_train": train, "objects_test": "test"}
    data |= {"scenes_train": "scenes|", "scenes_test": ""}
    return parse_preset("photos", {"methods": METHODS, "data": data})


@pytest.fixture
def edition(tmp_path, monkeypatch):
    """Published pictures of a set of photographs, by the names of its images."""
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DCLIB_EDITION", "results/photos")
    folder = tmp_path / "results" / "photos" / "pictures"
    folder.mkdir(parents=True)
    cluster = {"cluster": 3, "size": 40, "images": NAMES[:9], "mean": [90.0, 80.0, 70.0], "spread": 5.0}
    tagged = {**cluster, "field": "hashtag", "value": "cats", "share": 0.5, "credits": ["Ann"] * 9}
    for name, shown in (("clusters", cluster), ("colour", cluster), ("metadata", tagged)):
        (folder / f"{name}-deepercluster-s0.json").write_text(json.dumps({"clusters": [shown]}))
    (folder / "retrieval-deepercluster-s0.json").write_text(json.dumps({"oxford": []}))
    return tmp_path


def write_images(root: Path, *folders: str) -> None:
    for folder in folders:
        for n, name in enumerate(NAMES):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 9 * n, dtype=np.uint8)).save(path)


def shown_of(preset, method: str = "deepercluster") -> dict[str, str]:
    """Every exhibit that has pictures, in words."""
    sets = sets_to_show(preset)
    found = {
        "pool": exhibits.contact_sheet(sets.pool, "images of the pool", preset.data, by_class=False),
        "objects": exhibits.contact_sheet(sets.objects_train, "labelled objects", preset.data),
        "scenes": exhibits.contact_sheet(sets.scenes_train, "labelled scenes", preset.data),
        "photographs": exhibits.photographs(sets.pool, preset.data),
        "counts": exhibits.class_counts(sets.pool, sets.objects_train),
        "others": exhibits.other_sets(sets.root, preset.data),
        "input": exhibits.network_input(sets.pool),
        "mosaics": exhibits.cluster_mosaics(preset, method, sets.pool),
        "uniform": colour.uniform_clusters(preset, method, sets.pool),
        "tags": metadata.cluster_pages(preset, method, sets.pool, "hashtag"),
        "ranked": retrieval.neighbours(preset, sets.root, method),
    }
    return {name: fragment.text for name, fragment in found.items()}


def test_where_the_images_are_not_here_each_picture_is_a_sentence_that_says_how_to_get_them(edition):
    preset = preset_of("data/cifar10")
    told = "Not shown here: the book brings no photographs, and CIFAR-10 is not on this machine. The command python -m "
    told += "dclib fetch cifar10 gets it, and make book draws it then."
    assert set(shown_of(preset).values()) == {told}
    # what was never published is not said to be missing
    assert shown_of(preset, "supervised")["mosaics"] == "Supervised saved no clusters to look at."
    pool = sets_to_show(preset).pool
    assert pictures.two_to_look_at(pool) == {}
    assert gradients.nothing_seen(pool, "deepercluster").text == told
    table = repr(tables.data_table(preset, [("pool", pool), ("tests", sets_to_show(preset).scenes_test)]))
    assert "train, not here" in table
    assert "not in this preset" in table
    # whatever else asks for images is answered without them
    assert runnable_methods(preset) == ("deepercluster", "supervised")
    assert "reads real images" in exhibits.data_notice(preset, "linear_probes").text
    # the same where several sets lie below one folder
    beside = preset_of("data", "cifar10/train")
    assert shown_of(beside)["pool"] == shown_of(beside)["others"] == told
    assert lacks_images(beside.data)
    assert shown_of(beside)["ranked"].endswith(
        "The command python -m dclib fetch oxford5k gets it, and make book draws it then."
    )
    # and of a set that nobody can fetch it is said where it belongs
    assert shown_of(preset_of("my/photos"))["pool"].endswith("With train in the folder my/photos, make book draws it.")


def test_the_table_of_images_tells_their_numbers_from_the_records(edition):
    """A probe's card counts 5,000 to learn from and 1,000 to be tested on together; a pre-training its pool."""
    preset = preset_of("data/cifar10")
    records = edition / "results" / "photos" / "records"
    pooled = make_card("deepercluster", 0, "pretrain", notes={"images": 50_000})
    labelled = make_card("supervised", 0, "pretrain", notes={"images": 5_000})
    for card in (pooled, labelled):
        write_records(records / "pretrain" / f"{card.method}-s0.json", card, [])
    none = Record(name="loss", value=1.0, unit="nats", n=50_000)
    write_records(records / "pretrain" / "deepercluster-s0.json", pooled, [none])
    write_records(records / "pretrain" / "a-supervised-s0.json", labelled, [none])
    probe = Record(name="top1", value=1.0, unit="%", n=1_000, keys={"dataset": "objects", "layer": 1})
    write_records(records / "probe.json", make_card("random", 0, notes={"images": 6_000}), [probe])
    sets = sets_to_show(preset)
    counts = (sets.pool.count, sets.objects_train.count, sets.objects_test.count, sets.scenes_train.count)
    assert counts == (50_000, 5_000, 1_000, 0)
    assert "| pool | train, not here | 50,000 | – | – |" in repr(tables.data_table(preset, [("pool", sets.pool)]))


def test_where_some_of_them_are_here_these_are_drawn(edition):
    write_images(edition / "data" / "mixed", "train")
    shown = shown_of(preset_of("data/mixed"))
    assert "18 images of 18 in pool" in shown["pool"]
    assert not lacks_images(preset_of("data/mixed").data)
    assert "cat, dog" in shown["objects"]
    assert shown["scenes"].startswith("Not shown here: the book brings no photographs, and scenes is not on this")
    assert "cluster 3 of 40 images, 9 of 9 cat" in shown["mosaics"]
    assert "mean colour red 90" in shown["uniform"]
    assert "cats: 50 % of 40 images" in shown["tags"]
    assert "oxford5k is not on this machine" in shown["ranked"]


def test_another_set_of_the_same_name_is_not_taken_for_it(edition, monkeypatch):
    write_images(edition / "data" / "cifar10", "train")
    (edition / "data" / "cifar10" / "train" / "cat" / "0.png").unlink()
    shown = shown_of(preset_of("data/cifar10"))
    for name in ("mosaics", "uniform", "tags"):
        assert shown[name] == (
            "The pictures that belong here are not shown: 1 pictured images are not in pool, first 'cat/0.png'."
        )
    monkeypatch.delenv("DCLIB_EDITION")  # of a run it is a fault
    monkeypatch.setattr(exhibits, "shown_folder", lambda _: edition / "results" / "photos")
    pool = ImageSet("pool", (), None)
    with pytest.raises(ValueError, match="are not in pool, first 'cat/0.png'; train again"):
        exhibits.cluster_mosaics(preset_of("data/cifar10"), "deepercluster", pool)


def test_without_an_edition_images_that_are_not_there_are_refused(edition, monkeypatch):
    monkeypatch.delenv("DCLIB_EDITION")
    with pytest.raises(ValueError, match="no images for"):
        sets_to_show(preset_of("data/cifar10"))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_page_opens_images_in_another_way(path):
    """What a notebook calls by itself of the rooms that open them, but for what returns at once in an edition."""
    tree = ast.parse(code_of(read_notebook(path)))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not names & {"prepare_data", "open_pool", "open_labelled", "open_split", "open_images", "open_cities"}


def test_an_absent_set_has_a_name_for_tables_and_a_title_for_sentences():
    gone = AbsentSet("train", "CIFAR-10", "Get it.")
    assert (gone.name, gone.sentence.endswith("CIFAR-10 is not on this machine. Get it.")) == ("train", True)
