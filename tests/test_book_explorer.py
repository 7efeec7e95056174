"""The explorer in a book: drawn images by the clusters that runs have kept."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score
from tiny_images import write_pictures

from dclib.data.layouts import open_images
from dclib.explore.answers import NONE
from dclib.pocket.outline import PoolDrawer
from dclib.presets import load_preset, project_root
from dclib.press.clusters import clusters_of_book
from dclib.press.explorer import (
    Kept,
    book_answers,
    by_colours,
    kept_clusterings,
    links,
    steadiness,
    write_book_explorer,
)
from dclib.press.pool import shown_pool
from dclib.records import read_records
from dclib.train import forming

PICTURES = project_root() / "results" / "pocket" / "pictures"


def test_rows_of_published_clusterings_are_the_images_in_order_of_their_numbers():
    """Only so do they agree with what was drawn as far as the run measured it."""
    data = load_preset("pocket").data
    photos = PoolDrawer(Path(), data.pocket_images, data.pocket_seed).photos
    classes = [photos[number].class_name for number in sorted(photos)]
    clusters = np.load(PICTURES / "assignments-deepercluster-s1.npy")
    records = read_records(PICTURES.parent / "records" / "pretrain")
    measured = [
        r.value
        for r in records
        if r.name == "final_nmi_labels" and r.card and (r.card.method, r.card.seed) == ("deepercluster", 1)
    ]
    # both in double precision, summed in another order
    assert measured == [pytest.approx(normalized_mutual_info_score(classes, clusters), abs=1e-9)]


def test_steadiness_is_the_share_of_companions_that_stay():
    rng = np.random.default_rng(0)
    first, *others = (rng.integers(0, k, 40) for k in (5, 4, 6))
    first[7] = 5  # alone in its cluster
    shares, second = steadiness([first, *others])
    for i in range(40):
        companions = [j for j in range(40) if j != i and first[j] == first[i]]
        stay = [np.mean([other[j] == other[i] for j in companions]) if companions else 0 for other in others]
        assert shares[i] == pytest.approx(np.mean(stay), abs=1e-6)  # float32
        votes = np.zeros(6)
        for other in others:
            for j in np.flatnonzero(other == other[i]):
                votes[first[j]] += 1 / np.sum(other == other[i])
        votes[first[i]] = 0
        assert votes[second[i]] == pytest.approx(votes.max())
    alone, none = steadiness([first])
    assert not alone.any()
    assert set(none.tolist()) == {NONE}


def test_places_and_neighbours_follow_colours_and_layout():
    thumbs = np.zeros((6, 3, 16, 16), np.uint8)
    for i in range(6):
        thumbs[i, 0 if i < 3 else 2] = 200 + 5 * i
    place, neighbours, cosines = by_colours(thumbs)
    assert place.min() == 0
    assert place.max() == 1
    assert neighbours.shape == (6, 5)
    for i in range(6):
        assert {int(j) // 3 for j in neighbours[i, :2]} == {i // 3}
        assert i not in neighbours[i]
        assert np.all(np.diff(cosines[i]) <= 0)
    assert abs(place[0] - place[1]).sum() < abs(place[0] - place[4]).sum() / 4


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    preset = load_preset("smoke", {"data.pocket_images": 100})
    rng = np.random.default_rng(0)
    for folder, methods in {"own": ["rotnet"], "published": ["rotnet", "deepercluster", "supervised"]}.items():
        (tmp_path / folder).mkdir()
        for method in methods:
            for seed in (0, 1):
                np.save(
                    tmp_path / folder / f"assignments-{method}-s{seed}.npy", rng.integers(0, 4, 100).astype(np.int16)
                )
    np.save(tmp_path / "published" / "assignments-random-s0.npy", np.zeros(99, np.int16))  # of other images
    return preset, kept_clusterings(preset, tmp_path / "own", tmp_path / "published"), tmp_path


def test_own_clusterings_come_before_published_ones_and_those_of_other_images_stay_out(small):
    preset, kept, folder = small
    assert [(one.method, one.is_published) for one in kept] == [("deepercluster", True), ("rotnet", False)]
    assert np.array_equal(kept[1].clusterings[1], np.load(folder / "own" / "assignments-rotnet-s1.npy"))
    assert kept_clusterings(preset, folder / "nowhere", None) == []
    assert links([]) == {}
    assert set(links(kept)) == {"data", "pretraining_deepercluster", "pretraining_rotnet"}


def test_the_page_has_a_clustering_for_each_network(small):
    preset, kept, folder = small
    page = write_book_explorer(folder / "html", shown_pool(preset.data), kept)
    assert page == folder / "html" / "explorer" / "index.html"
    about = json.loads((page.parent / "data" / "about.js").read_text().split(",", 1)[1].removesuffix(");\n"))
    assert [one["name"] for one in about["groupings"]] == ["DeeperCluster (published)", "RotNet"]
    assert about["n"] == 100
    one = json.loads((page.parent / "data" / "grouping-1.js").read_text().split(",", 1)[1].removesuffix(");\n"))
    shown = np.frombuffer(base64.b64decode(one["cluster"]), "<i4")
    assert sorted(shown.tolist()) == sorted(kept[1].clusterings[0].tolist())
    before = page.read_bytes(), (page.parent / "sheets" / "0.jpg").read_bytes()
    assert (
        write_book_explorer(folder / "html", shown_pool(preset.data), kept) == page
    )  # by the thumbnails that were kept
    assert (page.read_bytes(), (page.parent / "sheets" / "0.jpg").read_bytes()) == before


def test_a_sample_takes_the_clusters_of_its_own_rows(small, monkeypatch):
    monkeypatch.setattr(forming, "MAPPED", 20)
    pool = shown_pool(small[0].data)
    rows, numbers = forming.mapped_rows(100), sorted(PoolDrawer(Path(), 100, small[0].data.pocket_seed).photos)
    assert len(set(rows.tolist())) == 20
    thumbs = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
    kept = [Kept("rotnet", [np.arange(100), np.arange(100)], is_published=True)]
    answers = book_answers(pool, thumbs, kept)
    assert answers.groupings[0].cluster.tolist() == rows.tolist()
    assert [int(Path(path).stem) for path in answers.paths] == [numbers[i] for i in rows]


def test_a_book_of_ones_own_images_shows_them_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    write_pictures(tmp_path / "photos" / "pool", 30)
    preset = load_preset("smoke", {"data.root": str(tmp_path / "photos"), "data.pool": "pool"})
    (tmp_path / "own" / "pictures").mkdir(parents=True)
    for method, n in (("deepercluster", 30), ("rotnet", 29)):  # one of them of other images
        np.save(tmp_path / "own" / "pictures" / f"assignments-{method}-s0.npy", np.arange(n, dtype=np.int16) % 3)
    shown = clusters_of_book(preset, tmp_path / "own", None)
    assert [one.method for one in shown.kept] == ["deepercluster"]
    shown.write(tmp_path / "html", "smoke")
    explorer = tmp_path / "html" / "explorer"
    photographs = json.loads((explorer / "data" / "photographs.js").read_text().split(",", 1)[1].removesuffix(");\n"))
    assert sorted(photographs["paths"]) == sorted(open_images(tmp_path / "photos" / "pool").ids)
    images, side = open_images(tmp_path / "photos" / "pool"), shown.pool.thumbs().shape[-1]
    small = [np.asarray(images.open(i).resize((side, side))).astype(float) for i in range(30)]
    sheet = np.asarray(Image.open(explorer / "sheets" / "0.jpg")).astype(float)
    for place, name in enumerate(photographs["paths"][:25]):  # 5 x 5 on a sheet
        y, x = (side * part for part in divmod(place, 5))
        apart = [np.abs(sheet[y : y + side, x : x + side] - one).mean() for one in small]
        assert images.ids[int(np.argmin(apart))] == name
    page = (explorer / "index.html").read_text()
    assert "photograph" not in re.sub(r"photographs\.js", "", page).lower()
    (tmp_path / "own" / "pictures" / "assignments-deepercluster-s0.npy").unlink()
    assert clusters_of_book(preset, tmp_path / "own", None).kept == []  # what is left is of 29 images
    shutil.rmtree(tmp_path / "photos")
    assert clusters_of_book(preset, tmp_path / "own", None).pool is None
