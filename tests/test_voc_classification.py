"""VOC classification: losses, precisions and schedules by hand or by another library, and what is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_images import TINY_MODEL, draw_shape

from dclib.config import DataConfig, VocConfig
from dclib.data.pixels import load_pixels
from dclib.data.voc import VocSet, check_classes, open_voc
from dclib.evaluate import voc as module
from dclib.evaluate.classifier import FC_BIAS, Classifier
from dclib.evaluate.voc import average_precisions, classify_voc, voc_learning_rate, voc_loss
from dclib.models.vgg import Trunk
from dclib.randomness import generator

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = VocConfig(iterations=40, batch_size=8, lr=0.02, dropout=0.5, crop_area=0.6, test_crops=3)
KINDS = ("cross", "disc", "fence")


def voc_folder(root: Path, n: int = 24, *, classes: tuple[str, ...] = KINDS, split: str = "train") -> Path:
    """Single shapes in VOC's layout; every fifth label of another class is marked difficult."""
    lists = root / "ImageSets" / "Main"
    for folder in (root / "JPEGImages", lists):
        folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(split))
    ids = [f"{split}{i:03d}" for i in range(n)]
    for i, image_id in enumerate(ids):
        draw_shape(KINDS[i % 3], rng).save(root / "JPEGImages" / f"{image_id}.jpg")
    (lists / f"{split}.txt").write_text("\n".join(ids))
    for c, name in enumerate(classes):
        marks = [1 if i % 3 == c else 0 if i % 5 == 0 else -1 for i in range(n)]
        (lists / f"{name}_{split}.txt").write_text("\n".join(f"{i} {m}" for i, m in zip(ids, marks, strict=True)))
    return root


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[VocSet, VocSet]:
    root = tmp_path_factory.mktemp("VOC2007")
    voc_folder(root, split="train")
    voc_folder(root, 12, split="test")
    return open_voc(root, "train"), open_voc(root, "test")


@pytest.fixture
def trunk() -> Trunk:
    trunk = Trunk(replace(TINY_MODEL, hidden_dim=32, feature_dim=32), generator(0))
    for layer in trunk.features:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2.0, generator=generator(1))
    return trunk


# by hand


def test_the_loss_is_a_sum_over_classes_and_difficult_labels_count_for_nothing() -> None:
    logits = torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.7, -0.4]])
    labels = torch.tensor([[1, -1, 0], [0, 1, -1]])

    def cross_entropy(logit: float, present: bool) -> float:
        return math.log(1 + math.exp(-logit if present else logit))

    expected = (cross_entropy(0.3, True) + cross_entropy(-1.2, False)) / 2
    expected += (cross_entropy(0.7, True) + cross_entropy(-0.4, False)) / 2
    assert float(voc_loss(logits, labels)) == pytest.approx(expected, rel=1e-6)  # float32


def precision_by_thresholds(scores: list[float], present: list[bool]) -> float:
    """Mean, over positives, of the precision among what scores as high; a negative of equal score is among it."""
    precisions = []
    for own, is_present in zip(scores, present, strict=True):
        if is_present:
            above = [there for score, there in zip(scores, present, strict=True) if score >= own]
            precisions.append(sum(above) / len(above))
    return 100 * sum(precisions) / sum(present)


def test_average_precision_is_that_of_thresholds_written_out() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 4)).astype(float)  # many ties
    labels = rng.choice([1, 0, -1], (40, 4)).astype(np.int8)
    result = average_precisions(scores, labels, ("a", "b", "c", "d"))
    for c, name in enumerate("abcd"):
        judged = labels[:, c] != 0
        expected = precision_by_thresholds(scores[judged, c].tolist(), (labels[judged, c] == 1).tolist())
        assert result.average_precision[name] == pytest.approx(expected, abs=1e-9)
    assert result.mean == pytest.approx(np.mean(list(result.average_precision.values())))


def test_a_class_without_positives_is_left_out_and_named() -> None:
    labels = np.array([[1, -1, 0], [-1, -1, 0], [1, -1, -1]], dtype=np.int8)
    result = average_precisions(np.eye(3), labels, ("cat", "unicorn", "<b>"))
    assert result.left_out == ("unicorn", "<b>")
    assert result.n_positives == {"cat": 2, "unicorn": 0, "<b>": 0}
    assert list(result.average_precision) == ["cat"]


@pytest.mark.parametrize(
    ("setting", "step", "halvings"),
    [
        ("fc68", 0, 0),
        ("fc68", 19_999, 0),
        ("fc68", 20_000, 1),
        ("fc68", 149_999, 7),
        ("all", 10_000, 1),
        ("all", 149_999, 14),
    ],
)
def test_the_rate_is_halved_as_in_the_paper(setting, step: int, halvings: int) -> None:
    assert voc_learning_rate(0.003, setting, step, 150_000) == pytest.approx(0.003 / 2**halvings)
    # at a hundredth of the steps, the same shares of them
    assert voc_learning_rate(0.003, setting, step // 100, 1500) == pytest.approx(0.003 / 2**halvings)


# what is trained


def parameters_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> tuple[Classifier, Classifier]:
    """The model of a run before and after its training."""
    seen: list[Classifier] = []

    class Spy(Classifier):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            seen.append(self)

    monkeypatch.setattr(module, "Classifier", Spy)
    run()
    return seen[0], seen[0]


@pytest.mark.parametrize("setting", ["fc68", "all"])
def test_what_changes_and_what_does_not(splits, trunk: Trunk, setting, monkeypatch) -> None:
    train, test = splits
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    model, _ = parameters_of(monkeypatch, lambda: classify_voc(trunk, train, test, QUICK, setting=setting, seed=3))
    after = model.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.state_dict().items())
    for name in before:
        if not name.startswith("features."):
            continue
        statistics = "running" in name or "num_batches" in name
        same = torch.equal(before[name], after[name])
        assert same == (statistics or setting == "fc68"), name


def test_every_image_is_seen_as_often_and_the_order_changes() -> None:
    rows = torch.cat(list(module._rounds(10, 4, 10, seed=0)))
    assert len(rows) == 40
    rounds = rows.view(4, 10)
    assert all(sorted(lap.tolist()) == list(range(10)) for lap in rounds)
    assert not torch.equal(rounds[0], rounds[1])


def test_shapes_are_learnt_and_the_result_depends_on_the_seed_alone(splits, trunk: Trunk) -> None:
    train, test = splits
    config = replace(QUICK, iterations=150, lr=0.05, dropout=0.1)
    one, again = (classify_voc(trunk, train, test, config, setting="all", seed=1) for _ in range(2))
    other = classify_voc(trunk, train, test, config, setting="all", seed=2)
    assert one.average_precision == again.average_precision
    assert one.average_precision != other.average_precision
    chance = np.mean([100 * n / one.n_test for n in one.n_positives.values()])
    assert one.mean > chance + 15  # a third of the images show each class


def test_images_kept_decoded_are_cut_as_those_that_are_not(splits) -> None:
    pixels = load_pixels(splits[0].images, DataConfig(memory_gb=0.0), 32, scan=True)
    kept = module.keep_decoded(pixels, 1.0)
    assert len(kept) == len(pixels)
    rows, seeds = [torch.arange(9), torch.tensor([3, 3, 20])], [5, 6]
    streamed = pixels.crop_batches(rows, 0.3, seeds)
    for one, other in zip(module.crop_whole(pixels, kept, rows, 0.3, seeds), streamed, strict=True):
        inside = (..., slice(2, -2), slice(2, -2))  # one of them looks a pixel beyond the box at the frame
        assert (255 * (one - other)[inside]).abs().max() < 1.01  # and the other rounds its weights to 16 bits
    assert module.keep_decoded(pixels, 0.0) == []


def test_global_randomness_is_left_as_it_was(splits, trunk: Trunk) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    classify_voc(trunk, *splits, replace(QUICK, iterations=3), setting="fc68", seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_truncated_photograph_is_left_out(tmp_path: Path, trunk: Trunk) -> None:
    root = voc_folder(voc_folder(tmp_path / "VOC2007"), 12, split="test")
    victim = root / "JPEGImages" / "test004.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    data = DataConfig(max_unreadable=0.2)
    config = replace(QUICK, iterations=2)
    result = classify_voc(trunk, open_voc(root, "train"), open_voc(root, "test"), config, setting="fc68", data=data)
    assert result.n_test == 11
    with pytest.raises(ValueError, match="test004"):
        classify_voc(trunk, open_voc(root, "train"), open_voc(root, "test"), config, setting="fc68")


# bad input


def test_a_class_list_that_one_split_lacks_is_named(tmp_path: Path) -> None:
    root = voc_folder(voc_folder(tmp_path / "VOC2007"), 12, split="test", classes=KINDS[:2])
    with pytest.raises(ValueError, match=r"same classes in both splits; .* has 3 and .* 2: only one of them has fence"):
        check_classes(open_voc(root, "train"), open_voc(root, "test"))


def test_a_missing_split_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'val' in .*; it has train"):
        open_voc(voc_folder(tmp_path / "VOC2007"), "val")


def test_a_split_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "VOC2007")
    lists = root / "ImageSets" / "Main"
    for name in KINDS:
        path = lists / f"{name}_train.txt"
        path.write_text(path.read_text().replace(" 1", " -1"))
    train = open_voc(root, "train")
    with pytest.raises(ValueError, match="no image that shows any class"):
        check_classes(train, train)


# new layers


def test_new_layers_have_the_published_law_at_the_published_sizes() -> None:
    """Widths as at 224 pixels cost too much here: one layer of 4,096 inputs stands for them."""
    trunk = Trunk(replace(TINY_MODEL, hidden_dim=4096, feature_dim=8), generator(0))
    fc6, fc7, fc8 = (m for m in Classifier(trunk, 20, 0.5, generator(1)).classifier if isinstance(m, torch.nn.Linear))
    assert float(fc7.weight.detach().std()) == pytest.approx(0.01, rel=0.05)  # of 32,768 draws
    assert all(bool((layer.bias == FC_BIAS).all()) for layer in (fc6, fc7, fc8))
    assert float(fc6.weight.detach().std()) == pytest.approx(0.01 * math.sqrt(25_088 / fc6.in_features), rel=0.05)


def test_what_comes_through_the_new_layers_is_as_large_at_any_width() -> None:
    sizes = []
    for width in (64, 1024):
        trunk = Trunk(replace(TINY_MODEL, hidden_dim=width, feature_dim=width), generator(0))
        layer = [m for m in Classifier(trunk, 5, 0.0, generator(1)).classifier if isinstance(m, torch.nn.Linear)][1]
        inputs = torch.randn(256, width, generator=generator(2))
        sizes.append(float((layer(inputs) - FC_BIAS).detach().std()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_the_trunk_and_its_classifier_share_nothing(trunk: Trunk) -> None:
    model = Classifier(trunk, 4, 0.0, generator(0))
    for parameter in model.parameters():
        parameter.data.zero_()
    assert float(trunk.features[0].weight.detach().abs().sum()) > 0


def test_real_photographs(shared_data: Callable[[str], Path], trunk: Trunk) -> None:
    """The subset of VOC2007: all 20 classes, two of them without a test image."""
    root = shared_data("VOC2007")
    test = open_voc(root, "test")
    small = VocSet(test.images.subset(np.arange(60)), test.labels[:60], test.classes)
    result = classify_voc(trunk, small, small, replace(QUICK, iterations=5, test_crops=1), setting="fc68")
    assert len(result.average_precision) + len(result.left_out) == 20
    assert {"bird", "sheep"} <= set(result.left_out)
