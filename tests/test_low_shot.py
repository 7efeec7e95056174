"""Few labels, votes of neighbours, k-means features and their classifier: against loops and closed forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from notebook_cells import run_notebook
from tiny_images import CLASSES, SIDE, TINY_MODEL, labelled, picture_tensor, write_pictures

from dclib.config import LowShotConfig, Preset, ProbeConfig
from dclib.evaluate import low_shot as module
from dclib.evaluate.linear_probe import ProbeResult, pool_kernel
from dclib.evaluate.linear_svm import DECAYS, choose_and_fit, fit_path, own_space, standardise_, stratified_tenths
from dclib.evaluate.low_shot import best_layer, draw, draw_share, low_shot, pooled_features, rows_of
from dclib.evaluate.low_shot_runs import _labelled, baseline_features, baselines, low_shot_method
from dclib.evaluate.neighbours import vote_of_neighbours
from dclib.evaluate.patches import (
    PatchEncoder,
    draw_patches,
    even_contrast,
    fit_patch_encoder,
    fit_zca,
    triangle,
)
from dclib.models.vgg import Trunk
from dclib.presets import parse_preset
from dclib.randomness import generator
from dclib.records import DATA, read_records, select

pytestmark = pytest.mark.usefixtures("one_thread")


# votes of neighbours


def test_neighbours_vote_as_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query after the other in float64; blocks of a few queries, the last one not full."""
    monkeypatch.setattr("dclib.evaluate.neighbours.BLOCK_ELEMENTS", 150)
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(40, 5)), rng.normal(size=(17, 5))
    labels = rng.integers(0, 3, 40)
    expected = []
    for query in asked:
        cosines = [float(query @ row / math.dist(query, 0 * query) / math.dist(row, 0 * row)) for row in known]
        votes = [0.0, 0.0, 0.0]
        for place in sorted(range(40), key=lambda i: -cosines[i])[:7]:
            votes[labels[place]] += math.exp(cosines[place] / 0.07)
        expected.append(votes.index(max(votes)))
    features, queries = torch.tensor(known, dtype=torch.float32), torch.tensor(asked, dtype=torch.float32)
    found = vote_of_neighbours(features, torch.from_numpy(labels), queries, 7, 3)
    assert found.tolist() == expected
    assert len(set(expected)) == 3


def test_a_near_neighbour_outvotes_several_far_ones_and_length_does_not_count() -> None:
    known = torch.tensor([[10.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    labels = torch.tensor([1, 0, 0, 0])
    queries = torch.tensor([[0.5, 0.1], [0.1, 0.5], [0.0, 0.0]])
    # nothing is near a query of zeros: each vote weighs the same, and three are for class 0
    assert vote_of_neighbours(known, labels, queries, 4, 2).tolist() == [1, 0, 0]


@pytest.mark.parametrize("k", [0, 4])
def test_more_neighbours_than_images_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match="low_shot.neighbours from 1 to 3"):
        vote_of_neighbours(torch.ones(3, 2), torch.tensor([0, 1, 1]), torch.ones(1, 2), k, 2)


# k-means features


def pictures(n: int, side: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, 3, side, side), generator=generator(seed, "noise"), dtype=torch.uint8)


def test_patches_are_cut_from_the_images() -> None:
    """Each pixel of an image has a value of its own, so that a patch tells its place."""
    images = torch.arange(2 * 3 * 9 * 9, dtype=torch.int32).view(2, 3, 9, 9)
    found = draw_patches(images, 300, generator(0, "places"))
    first = [(int(patch[0]) // 243, int(patch[0]) % 81 // 9, int(patch[0]) % 9) for patch in found]
    for patch, (image, y, x) in zip(found, first, strict=True):
        assert torch.equal(patch.view(3, 6, 6), images[image, :, y : y + 6, x : x + 6])
    assert len(set(first)) == 2 * 4 * 4  # every place of both images; 300 draws miss one of 32 once in 400 times


def test_contrast_is_evened() -> None:
    """By hand: -3, -1, 1, 3 have the variance 20 / 3 with one degree of freedom less; a flat patch stays flat."""
    found = even_contrast(torch.tensor([[7.0, 9.0, 11.0, 13.0], [5.0, 5.0, 5.0, 5.0]]))
    expected = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(20 / 3 + 10)
    torch.testing.assert_close(found[0], expected)
    assert found[1].tolist() == [0.0] * 4


def test_zca_gives_the_identity_as_covariance() -> None:
    mixed = torch.randn(500, 6, generator=generator(1), dtype=torch.float64) @ torch.randn(
        6, 6, generator=generator(2), dtype=torch.float64
    )
    mean, whitening = fit_zca(mixed + 3, floor=0.0)
    white = ((mixed + 3 - mean) @ whitening).numpy()
    # sums of 500 squares near 1 in float64, times the condition of the covariance, below 1e4
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=1e-10)
    assert torch.allclose(whitening, whitening.T)
    axes, _, _ = np.linalg.svd(np.cov(mixed.numpy().T, bias=True))
    variances = np.diag(axes.T @ np.cov(((mixed + 3 - mean) @ fit_zca(mixed + 3)[1]).numpy().T, bias=True) @ axes)
    own = np.diag(axes.T @ np.cov(mixed.numpy().T, bias=True) @ axes)
    np.testing.assert_allclose(variances, own / (own + 0.1), rtol=1e-8)


def test_triangle_by_hand() -> None:
    """Centroids at 1, 3 and 5 from a point: their mean is 3, so the first is 2 nearer, the others not at all."""
    found = triangle(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0], [-5.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0, 0.0]]))


def loop_features(image: np.ndarray, encoder: PatchEncoder) -> list[float]:
    """One image, patch by patch in float64: the order of the features is upper left, upper right, lower left, ..."""
    mean, whitening, centroids = (t.double().numpy() for t in (encoder.mean, encoder.whitening, encoder.centroids))
    places = image.shape[-1] - 5
    half = -(-places // 2)
    sums = np.zeros((2, 2, len(centroids)))
    for y in range(places):
        for x in range(places):
            patch = image[:, y : y + 6, x : x + 6].astype(float).ravel()
            patch = (patch - patch.mean()) / math.sqrt(patch.var(ddof=1) + 10)
            white = whitening.T @ (patch - mean)
            distances = [math.dist(white, centroid) for centroid in centroids]
            middle = sum(distances) / len(distances)
            sums[int(y >= half), int(x >= half)] += [max(0.0, middle - z) for z in distances]
    return sums.ravel().tolist()


@pytest.mark.parametrize("side", [9, 10])
def test_k_means_features_are_those_of_a_loop(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four or five positions a side, which halve evenly and not; images taken two at a time, and the last alone."""
    monkeypatch.setattr("dclib.evaluate.patches.BLOCK_ELEMENTS", 2 * (side - 5) ** 2 * 4)
    images = pictures(5, side)
    encoder = fit_patch_encoder(images, 4, 60, generator(0, "patches"))
    found = encoder.encode(images)
    expected = torch.tensor([loop_features(image.numpy(), encoder) for image in images])
    # sums of 9 differences of distances near 10 in float32, whose squares carry the rounding: 1e-3 at most
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert (found.view(5, 4, 4) > 0).any(dim=2).any(dim=0).all()  # in every quarter


def test_centroids_are_means_of_whitened_patches() -> None:
    """Each is the mean of the whitened patches that it is nearest to, found here by all distances."""
    images = pictures(6)
    encoder = fit_patch_encoder(images, 3, 200, generator(5))
    patches = even_contrast(draw_patches(images, 200, generator(5)).float())
    white = encoder.whiten(patches)
    nearest = torch.cdist(white, encoder.centroids).argmin(dim=1)
    for number, centroid in enumerate(encoder.centroids):
        # after 30 updates of 200 patches nothing moves any more
        torch.testing.assert_close(white[nearest == number].mean(dim=0), centroid, rtol=0, atol=1e-4)


def test_images_too_small_to_be_quartered_are_refused() -> None:
    with pytest.raises(ValueError, match="need images of 7 or more; got 6"):
        fit_patch_encoder(pictures(2, 6), 2, 10, generator(0))


# the classifier on top


def problem(n: int, d: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centres = rng.normal(size=(3, d))
    return torch.tensor(centres[labels] + rng.normal(size=(n, d)), dtype=torch.float32), torch.from_numpy(labels)


@pytest.mark.parametrize("decay", [0.3, 0.01])
def test_the_classifier_is_at_the_minimum(decay: float) -> None:
    """The same objective written in NumPy for one class at a time, minimised by SciPy in float64."""
    features, labels = problem(60)
    (found,) = fit_path(features, labels, 3, [decay], features.square().mean(dim=0))
    x = features.double().numpy()
    for number in range(3):
        sign = np.where(labels.numpy() == number, 1.0, -1.0)

        def loss(theta: np.ndarray, sign: np.ndarray = sign) -> float:
            short = np.maximum(0, 1 - sign * (x @ theta[:-1] + theta[-1]))
            return float(np.mean(short**2) + decay / 2 * theta[:-1] @ theta[:-1])

        best = scipy.optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
        own = np.append(found.weights[:, number].numpy(), found.biases[number])
        # L-BFGS stops when the loss no longer changes in float32, 1e-7 of it: weights are then within the root
        np.testing.assert_allclose(own, best, atol=2e-3)


def test_features_that_go_together_are_fitted_to_the_end_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty mixed features, spread a thousandfold: within 1e-3 of the least loss by SciPy, and without axes far off."""
    monkeypatch.setattr("dclib.evaluate.linear_svm.ITERATIONS", 30)
    features, labels = problem(400, 60)
    labels[::4] = labels[::4].roll(1)  # else they could be told apart without loss
    mix, _ = torch.linalg.qr(torch.randn(60, 60, generator=torch.Generator().manual_seed(1)))
    features = features @ (mix * torch.logspace(-3, 0, 60)) @ mix.T
    x, sign = features.double().numpy(), np.where(labels.numpy() == 0, 1.0, -1.0)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        short = np.maximum(0, 1 - sign * (x @ theta[:-1] + theta[-1]))
        slope = -2 * sign * short / len(x)
        slopes = np.append(x.T @ slope + 1e-4 * theta[:-1], slope.sum())
        return float(np.mean(short**2) + 5e-5 * theta[:-1] @ theta[:-1]), slopes

    least = scipy.optimize.minimize(loss, np.zeros(61), jac=True, method="BFGS", options={"maxiter": 5000}).fun
    points, axes, squares = own_space(features)
    (svm,) = fit_path(points, labels, 3, [1e-4], squares)
    assert loss(np.append((axes @ svm.weights)[:, 0].double(), svm.biases[0]))[0] < 1.001 * least
    (plain,) = fit_path(features, labels, 3, [1e-4], torch.ones(60))
    assert loss(np.append(plain.weights[:, 0].double(), plain.biases[0]))[0] > 1.01 * least


def test_a_path_ends_where_a_single_fit_does() -> None:
    features, labels = problem(60)
    squares = features.square().mean(dim=0)
    alone = fit_path(features, labels, 3, [0.01], squares)[0]
    path = fit_path(features, labels, 3, [1.0, 0.1, 0.01], squares)[-1]
    torch.testing.assert_close(path.weights, alone.weights, rtol=0, atol=2e-3)  # as above


def test_tenths_are_even_over_classes_and_differ_by_seed() -> None:
    labels = torch.tensor([0] * 100 + [1] * 53 + [2] * 7)
    tenths = stratified_tenths(labels, generator(0))
    for number in range(10):
        counts = [int(((tenths == number) & (labels == label)).sum()) for label in range(3)]
        assert counts[0] == 10
        assert counts[1] in (5, 6)
        assert counts[2] in (0, 1)
    assert not torch.equal(tenths, stratified_tenths(labels, generator(1)))


def test_the_decay_is_chosen_on_images_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strongest where a weak one gains nothing; a weak one where no other can tell the classes."""
    monkeypatch.setattr("dclib.evaluate.linear_svm.HELD_OUT", 40)
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    features = torch.randn(40, 200, generator=rng) * 0.1
    features[:, 0] += 4.0 * (labels - 0.5)
    svm, decay = choose_and_fit(features, labels, 2, generator(0))
    assert decay == DECAYS[0]
    assert svm.accuracy(features, labels) == 100
    curved = torch.randn(400, 1, generator=rng)
    wide = torch.cat([curved, 0.1 * curved.square()], dim=1)  # only a weak decay lets the small column count
    _, decay = choose_and_fit(wide, (curved[:, 0].square() > 0.7).long(), 2, generator(0))
    assert decay < DECAYS[1]


def test_fewer_images_than_features_are_fitted_in_their_own_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same minimum as in all directions, which is found without the span."""
    monkeypatch.setattr("dclib.evaluate.linear_svm.HELD_OUT", 3)
    features, labels = problem(30, 50)
    svm, decay = choose_and_fit(features, labels, 3, generator(0))
    whole = fit_path(features, labels, 3, [d for d in DECAYS if d >= decay], features.square().mean(dim=0))[-1]
    torch.testing.assert_close(svm.weights, whole.weights, rtol=0, atol=2e-3)  # as above
    torch.testing.assert_close(svm.biases, whole.biases, rtol=0, atol=2e-3)


def test_columns_are_standardised_by_the_training_images() -> None:
    train, test = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[2.0, 6.0]])
    standardise_(train, test)
    root = 1 / math.sqrt(1.01)
    torch.testing.assert_close(train, torch.tensor([[-root, 0.0], [root, 0.0]]))
    torch.testing.assert_close(test, torch.tensor([[0.0, 10.0]]))


# shares of the labels


@pytest.fixture(scope="module")
def shapes() -> tuple:
    """Drawn shapes of four classes, as many of each: 160 to learn from, 80 to be tested on."""
    train, test = ([CLASSES[i % 4] for i in range(n)] for n in (160, 80))
    sets = (picture_tensor(kinds, seed) for seed, kinds in enumerate((train, test)))
    labels = ([CLASSES.index(kind) for kind in kinds] for kinds in (train, test))
    return tuple(labelled(images, own, 32) for images, own in zip(sets, labels, strict=True))


def test_shares_are_even_nested_and_the_same_for_whoever_asks(shapes: tuple) -> None:
    train = shapes[0]
    few, more = draw_share(train, 0.05, 3), draw_share(train, 0.25, 3)
    assert np.bincount(few.images.labels).tolist() == [2] * 4
    assert np.bincount(more.images.labels).tolist() == [10] * 4
    assert set(few.images.ids) < set(more.images.ids)
    assert draw_share(train, 0.05, 3).images.ids == few.images.ids
    assert draw_share(train, 0.05, 4).images.ids != few.images.ids
    for pixels in (few, more):  # pictures go with their names
        rows = [int(image) for image in pixels.images.ids]
        assert torch.equal(pixels.decoded, train.decoded[rows])
        assert pixels.images.labels.tolist() == train.images.labels[rows].tolist()
    with pytest.raises(ValueError, match="0.01 of 160 labelled images is 2: take 0.025 or more"):
        draw_share(train, 0.01, 0)


def test_the_layer_is_chosen_on_other_training_images(shapes: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def probe(trunk, learned, judged, config, **options):  # type: ignore[no-untyped-def]
        seen.append((learned, judged, config))
        curve = [10.0] * 13
        curve[6] = curve[8] = 50.0
        return module_result(tuple(curve))

    monkeypatch.setattr(module, "linear_probe", probe)
    assert best_layer(None, shapes[0], ProbeConfig(epochs=3), 0) == (7, 16)
    ((learned, judged, config),) = seen
    assert not set(learned.images.ids) & set(judged.images.ids)
    assert set(learned.images.ids) | set(judged.images.ids) <= set(shapes[0].images.ids)
    assert np.bincount(learned.images.labels).tolist() == np.bincount(judged.images.labels).tolist() == [4] * 4
    assert config.epochs == 30  # as many steps as all labels make


def module_result(curve: tuple[float, ...]):  # type: ignore[no-untyped-def]
    return ProbeResult(curve, curve, 1, 1)


def random_trunk() -> Trunk:
    return Trunk(replace(TINY_MODEL, stem="rgb"), generator(3)).eval()


def test_networks_are_given_what_was_asked_for(shapes: tuple) -> None:
    """Each share's probes are those that the same images give alone, votes those of the pooled features."""
    trunk, probe = random_trunk(), ProbeConfig(epochs=2, batch_size=16, augment=False, lr_scale=3.0)
    config = LowShotConfig(shares=(0.1, 0.5, 1.0), neighbours=5)
    result = low_shot(trunk, *shapes, probe, config, 1)
    assert result.probes.keys() == {0.1, 0.5}  # all labels are Table 1's
    half = module.linear_probe(trunk, draw_share(shapes[0], 0.5, 1), shapes[1], replace(probe, epochs=4), seed=1)
    assert result.probes[0.5] == half.top1
    assert result.neighbours.keys() == {result.best_layer, 13}
    (known,), (asked,) = (pooled_features(trunk, pixels, [13]) for pixels in shapes)
    labels, truth = (torch.from_numpy(pixels.images.labels) for pixels in shapes)
    right = (vote_of_neighbours(known, labels, asked, 5, 4) == truth).double().mean()
    assert result.neighbours[13] == pytest.approx(100 * float(right))


@pytest.mark.parametrize("layer", [1, 8, 13])
def test_features_are_those_that_the_probes_see(shapes: tuple, layer: int) -> None:
    """The network run by hand up to the ReLU of a layer, in evaluation mode, and averaged over the probes' grid."""
    trunk = random_trunk().train()
    found = pooled_features(trunk, rows_of(shapes[1], range(5)), [layer])[0]
    assert trunk.training
    trunk.eval()
    with torch.no_grad():
        maps, relus = trunk.stem(next(shapes[1].centre_batches(5))), 0
        for part in trunk.features:
            maps = part(maps)
            relus += isinstance(part, torch.nn.ReLU)
            if relus == layer:
                break
        expected = torch.nn.functional.avg_pool2d(maps, pool_kernel(layer, maps.shape[-1])).flatten(1)
    torch.testing.assert_close(found, expected)  # batches of another layout in memory


def test_streamed_images_are_drawn_like_decoded_ones(shapes: tuple) -> None:
    streamed = replace(shapes[0], decoded=None)
    assert draw(streamed, 12, 0).images.ids == draw(shapes[0], 12, 0).images.ids
    assert rows_of(streamed, [3, 1]).decoded is None


# from a preset to records, and to the page


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 labelled shapes to learn from, 80 to be tested on, in class folders."""
    root = tmp_path_factory.mktemp("world")
    write_pictures(root / "train", 160, seed=1)
    write_pictures(root / "test", 80, seed=2)
    return root


LOW_SHOT = {"shares": [0.1, 1.0], "neighbours": 5, "centroids": [16], "patches": 500}


def asking(root: Path, **low_shot: object) -> Preset:
    """One random network, and a page of few labels."""
    return parse_preset("asking", settings(root, **low_shot))


def settings(root: Path, **low_shot: object) -> dict[str, object]:
    return {
        "data": {
            **{"root": str(root), "pool": "train", "objects_train": "train", "objects_test": "test"},
            **{"scenes_train": "", "scenes_test": "", "resize": SIDE},
        },
        "model": {"image_size": 32, "width": 1 / 16, "hidden_dim": 16, "feature_dim": 16, "dropout": 0.0},
        "probe": {"epochs": 2, "batch_size": 16, "augment": False},
        "methods": {"random": None},
        "low_shot": {**LOW_SHOT, **low_shot},
    }


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs; classifiers that are fitted and chosen in seconds."""
    monkeypatch.setattr("dclib.evaluate.linear_svm.ITERATIONS", 15)
    monkeypatch.setattr("dclib.evaluate.linear_svm.HELD_OUT", 16)
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    return tmp_path


def test_methods_without_a_network_learn_and_are_not_measured_twice(
    world: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four classes, 80 test images: chance is 25 % with a deviation of 4.8 points, so 60 % is seven of them above."""
    preset = asking(world)
    baselines(preset, 0)
    records = read_records(runs / "asking" / "records" / "baselines")
    top1 = {(r.keys["features"], r.keys["share"]): r.value for r in select(records, "low_shot_top1", method=DATA)}
    assert top1.keys() == {(f, s) for f in ("pixels", "k-means-16") for s in ("10 %", "100 %")}
    assert all(value > 60 for (_, share), value in top1.items() if share == "100 %")
    assert top1["pixels", "10 %"] > 60
    assert all(r.value > 60 for r in select(records, "neighbour_top1"))
    assert {r.n for r in select(records, "low_shot_top1")} == {80}
    assert {r.n for r in select(records, "chosen_decay")} == {16, 160}
    assert {r.card.notes["labels"] for r in records} == {"16 (10 %), 160 (100 %)"}
    monkeypatch.setattr("dclib.evaluate.low_shot_runs.baseline_features", lambda *_: pytest.fail("measured again"))
    baselines(preset, 0)
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        baselines(asking(world, neighbours=6), 0)


def test_baseline_pixels_are_those_of_the_images(world: Path, runs: Path) -> None:
    preset = asking(world)
    sets = _labelled(preset, "random")
    train, test = baseline_features(preset, 0, sets, 0, torch.device("cpu"))
    assert torch.equal(train[:3].view(3, 3, 32, 32), next(sets[0].centre_batches(3)).float())
    assert len(test) == 80


def test_a_network_is_measured_once_and_the_page_shows_it_beside_the_others(
    world: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "asking.yaml"
    path.write_text(json.dumps(settings(world)))
    shown = run_notebook("16_few_labels", preset=str(path))
    records = read_records(runs / "asking" / "records" / "low_shot")
    assert len(select(records, "low_shot_top1", share="10 %")) == 13
    assert len(select(records, "best_layer")) == 1
    layers = [r.keys["layer"] for r in select(records, "neighbour_top1")]
    assert layers == sorted({int(select(records, "best_layer")[0].value), 13})
    (value,) = (r.value for r in select(records, "low_shot_top1", share="10 %", layer=13))
    row = next(line for line in shown.splitlines() if line.startswith("| Random |"))
    assert row.split("|")[2].strip() == f"{value:.1f}"
    assert "K-means features, 16 centroids" in shown
    assert "Coates, Ng and Lee 2011" in shown
    monkeypatch.setattr("dclib.evaluate.low_shot_runs.low_shot", lambda *_: pytest.fail("measured again"))
    low_shot_method(asking(world), "random", 0)


def test_shares_that_hold_no_image_of_each_class_are_refused_before_anything_is_trained(
    world: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dclib.evaluate.low_shot_runs.trained_network", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="low_shot.shares needs an image of each of 4 classes"):
        low_shot_method(asking(world, shares=[0.01]), "random", 0)


def test_features_that_memory_does_not_hold_are_refused_before_anything_is_encoded(
    world: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dclib.evaluate.low_shot_runs.LARGEST", 240 * 4 * 3 * 32**2 - 1)
    monkeypatch.setattr("dclib.evaluate.low_shot_runs.baseline_features", lambda *_: pytest.fail("encoded"))
    with pytest.raises(ValueError, match="240 images, 3,072 numbers each, .* set probe.train_images to 159 or fewer"):
        baselines(asking(world), 0)


def test_a_preset_that_asks_for_nothing_has_nothing_measured(world: Path, runs: Path) -> None:
    preset = asking(world, shares=[], centroids=[])
    low_shot_method(preset, "random", 0)
    baselines(preset, 0)
    baselines(asking(world, centroids=[]), 0)
    assert not (runs / "asking").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shares": [0.0]}, r"shares in \(0, 1\]"),
        ({"shares": [0.1, 0.1]}, "each of shares once"),
        ({"shares": []}, "shares, where there are centroids"),
        ({"neighbours": 0}, "neighbours >= 1"),
        ({"patches": 10}, "centroids from 2 to patches"),
    ],
)
def test_settings_out_of_their_range_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asking(Path("somewhere"), **wrong)
