"""Retrieval: average precision worked by hand, boxes, bad input, and real query features against real ground truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import TINY_MODEL, Interruption, draw_shape, interrupt_at

from dclib.data.landmarks import Landmarks, open_landmarks, read_ground_truth
from dclib.evaluate import retrieval as module
from dclib.evaluate.retrieval import (
    check_landmarks,
    conv13_map,
    describe_landmarks,
    learn_whitening,
    rank_queries,
    retrieval_average_precision,
    score_descriptors,
)
from dclib.models.vgg import Trunk
from dclib.randomness import generator

EXACT = 1e-12


@pytest.mark.parametrize(
    ("ranking", "positives", "junk", "expected"),
    [
        ([0, 1, 2], {0}, set(), 1.0),
        ([1, 0, 2], {0}, set(), (0 + 1 / 2) / 2),  # precision 0 before it, 1/2 at it
        ([0, 1, 2, 3], {0, 2}, set(), (1 + (1 / 2 + 2 / 3) / 2) / 2),
        ([9, 0, 1, 2, 3], {0, 2}, {9}, (1 + (1 / 2 + 2 / 3) / 2) / 2),  # junk first changes nothing
        ([0, 9, 1, 8, 2, 3], {0, 2}, {8, 9}, (1 + (1 / 2 + 2 / 3) / 2) / 2),
        ([3, 2, 1, 0], {0, 1}, set(), ((0 + 1 / 3) / 2 + (1 / 3 + 2 / 4) / 2) / 2),
        ([0, 1], {0, 7}, set(), 1 / 2),  # one positive was never ranked
    ],
)
def test_average_precision_worked_by_hand(ranking, positives, junk, expected) -> None:
    assert retrieval_average_precision(ranking, positives, junk) == pytest.approx(expected, abs=EXACT)


def area_by_trapezoids(ranking: list[int], positives: set[int], junk: set[int]) -> float:
    """The same from the curve itself: a point per rank, the area by numpy."""
    kept = [i for i in ranking if i not in junk]
    hits = np.cumsum([i in positives for i in kept])
    recall = np.concatenate([[0], hits / len(positives)])
    precision = np.concatenate([[1], hits / np.arange(1, len(kept) + 1)])
    return float(((precision[1:] + precision[:-1]) / 2 * np.diff(recall)).sum())


def test_average_precision_is_the_area_under_the_curve_for_every_ranking_of_six() -> None:
    for ranking in itertools.permutations(range(6)):
        found = retrieval_average_precision(list(ranking), {0, 1, 2}, {5})
        assert found == pytest.approx(area_by_trapezoids(list(ranking), {0, 1, 2}, {5}), abs=EXACT)


def test_no_positive_and_an_image_ranked_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        retrieval_average_precision([0, 1], set())
    with pytest.raises(ValueError, match="at most once"):
        retrieval_average_precision([0, 1, 0], {0})


# real ground truth


@pytest.mark.parametrize("extractor", ["resnet", "custom"])
def test_real_query_features_find_their_landmarks(shared_data: Callable[[str], Path], extractor: str) -> None:
    """The 55 queries as the database: every query comes first for itself, and good features find the other four."""
    folder = shared_data("oxford5k")
    truth = read_ground_truth(folder / "gnd_oxford5k.pkl")
    (file,) = [p for p in (folder / "query_features").iterdir() if extractor in p.name]
    features = torch.from_numpy(np.load(file))
    names = tuple(query.image for query in truth.queries)
    kept = [i for i, name in enumerate(names) if name not in names[:i]]
    base = Landmarks(tuple(names[i] for i in kept), truth.queries)
    ranked = score_descriptors(features, features[kept], base)
    # nothing is more alike than the query itself; two queries of one place may have equal features
    similarity = features @ features[kept].T
    for one, row in zip(ranked, similarity, strict=True):
        assert row[base.images.index(one.names[0])] == row[base.images.index(one.query.image)]
    for one in ranked:  # against the area by numpy
        places = {name: i for i, name in enumerate(base.images)}
        positives = {places[n] for n in one.query.positives if n in places}
        junk = {places[n] for n in one.query.junk if n in places}
        area = area_by_trapezoids([places[n] for n in one.names], positives, junk)
        assert one.average_precision == pytest.approx(area, abs=EXACT)
    mean = np.mean([one.average_precision for one in ranked])
    shuffled = features[torch.randperm(len(features), generator=generator(0))]
    chance = np.mean([one.average_precision for one in score_descriptors(shuffled, features[kept], base)])
    assert mean > 0.5 > chance


def test_real_text_and_pickle_ground_truth_rank_alike(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("paris6k")
    pickled = read_ground_truth(folder / "gnd_paris6k.pkl")
    written = read_ground_truth(folder / "groundtruth", images=pickled.images)
    draws = generator(1)
    base = torch.randn(len(pickled.images), 8, generator=draws)
    queries = torch.randn(len(pickled.queries), 8, generator=draws)
    by_image = {q.image: q for q in written.queries}
    assert len(by_image) == len(pickled.queries)
    reordered = Landmarks(pickled.images, tuple(by_image[q.image] for q in pickled.queries))
    ours, theirs = (score_descriptors(queries, base, truth) for truth in (reordered, pickled))
    assert [r.average_precision for r in ours] == [r.average_precision for r in theirs]


# a small set of our own


def landmark_set(root: Path, *, box: str = "2 3 30 33") -> Path:
    """Six pictures of two landmarks and a stranger; two queries."""
    (root / "jpg").mkdir(parents=True)
    (root / "groundtruth").mkdir()
    rng = np.random.default_rng(0)
    for i, kind in enumerate(["cross", "cross", "cross", "disc", "disc", "disc", "fence"]):
        draw_shape(kind, rng).save(root / "jpg" / f"{kind}_{i}.jpg")
    for name, own, junk in (("cross", (0, 1), 2), ("disc", (3, 4), 5)):
        stem = root / "groundtruth" / f"{name}_1"
        Path(f"{stem}_query.txt").write_text(f"{name}_{own[0]} {box}\n")
        Path(f"{stem}_good.txt").write_text("".join(f"{name}_{i}\n" for i in own))
        Path(f"{stem}_ok.txt").write_text("")
        Path(f"{stem}_junk.txt").write_text(f"{name}_{junk}\n")
    return root


@pytest.fixture
def trunk() -> Trunk:
    return Trunk(TINY_MODEL, generator(0)).eval()


def test_a_set_is_described_ranked_and_scored(tmp_path: Path, trunk: Trunk) -> None:
    images, landmarks = open_landmarks(landmark_set(tmp_path / "city"))
    described = describe_landmarks(trunk, images, landmarks, longest_side=64, levels=3)
    assert list(described.images) == list(landmarks.images)
    ranked = rank_queries(described, learn_whitening(described))
    assert [r.query.name for r in ranked] == ["cross_1", "disc_1"]
    assert all(0 < r.average_precision <= 1 and set(r.names) == set(landmarks.images) for r in ranked)


def test_an_interrupted_description_goes_on_and_gives_the_same(tmp_path: Path, trunk: Trunk, monkeypatch) -> None:
    images, landmarks = open_landmarks(landmark_set(tmp_path / "city"))
    monkeypatch.setattr(module, "BLOCK", 2)
    whole = describe_landmarks(trunk, images, landmarks, longest_side=64, levels=2)
    work = module._describe_rows
    monkeypatch.setattr(module, "_describe_rows", interrupt_at(2, work))
    with pytest.raises(Interruption):
        describe_landmarks(trunk, images, landmarks, longest_side=64, levels=2, cache=tmp_path / "cache")
    monkeypatch.setattr(module, "_describe_rows", interrupt_at(2, work))  # four blocks: two are left
    resumed = describe_landmarks(trunk, images, landmarks, longest_side=64, levels=2, cache=tmp_path / "cache")
    assert all(torch.equal(whole.images[name], resumed.images[name]) for name in landmarks.images)


def test_an_image_cut_short_is_left_out_and_named(tmp_path: Path, trunk: Trunk) -> None:
    root = landmark_set(tmp_path / "city")
    victim = root / "jpg" / "fence_6.jpg"
    victim.write_bytes(victim.read_bytes()[:200])
    images, landmarks = open_landmarks(root)
    described = describe_landmarks(trunk, images, landmarks, longest_side=64, levels=1)
    assert described.unreadable == ("fence_6",)
    ranked = rank_queries(described, learn_whitening(described))
    assert all("fence_6" not in r.names for r in ranked)


def test_a_query_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = landmark_set(tmp_path / "city")
    (root / "jpg" / "disc_3.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="image of query 'disc_1' must be readable"):
        check_landmarks(*open_landmarks(root))


def test_a_box_outside_its_image_is_refused_before_anything_is_described(tmp_path: Path, trunk: Trunk) -> None:
    images, landmarks = open_landmarks(landmark_set(tmp_path / "city", box="2 3 90 33"))
    with pytest.raises(ValueError, match=r"box of query 'cross_1' must lie in its image of 36 x 36"):
        describe_landmarks(trunk, images, landmarks, longest_side=64, levels=3, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_ground_truth_that_names_an_absent_image_is_refused(tmp_path: Path) -> None:
    root = landmark_set(tmp_path / "city")
    (root / "jpg" / "disc_4.jpg").unlink()
    with pytest.raises(ValueError, match=r"names 1 images that are not in .*'disc_4'"):
        open_landmarks(root)


def test_the_box_is_scaled_with_the_image_and_then_cut_out(trunk: Trunk, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(module, "to_tensor", lambda image: seen.append(image.copy()) or torch.zeros(3, 40, 40))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 120, 3), dtype=np.uint8))
    conv13_map(trunk, image, 240, (10, 20, 50, 45))
    expected = image.resize((240, 120), Image.Resampling.BILINEAR).crop((20, 40, 100, 90))
    assert seen[0].size == (80, 50)
    assert np.array_equal(np.asarray(seen[0]), np.asarray(expected))


@pytest.mark.parametrize(("size", "side"), [((120, 60), 64), ((60, 120), 64), ((500, 500), 96)])
def test_the_map_is_the_last_relus_of_the_resized_image(trunk: Trunk, size: tuple[int, int], side: int) -> None:
    image = Image.new("RGB", size, (30, 90, 200))
    feature_map = conv13_map(trunk, image, side)
    scale = side / max(size)
    expected = [(round(s * scale) + 2) // 16 for s in (size[1], size[0])]  # four poolings of the padded grid
    assert list(feature_map.shape[1:]) == expected
    assert float(feature_map.min()) >= 0


def test_counts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    _, landmarks = open_landmarks(landmark_set(tmp_path / "city"))
    with pytest.raises(ValueError, match="one descriptor for each of 2 queries and 7 images; got 2 and 6"):
        score_descriptors(torch.zeros(2, 3), torch.zeros(6, 3), landmarks)
    with pytest.raises(ValueError, match="query 'cross_1' has no positive among the images"):
        score_descriptors(torch.zeros(2, 3), torch.zeros(1, 3), Landmarks(("fence_6",), landmarks.queries))
