"""Linear classifiers on 13 frozen layers: sizes and rates by hand, training against a loop written another way."""

import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_images import SIDE, TINY_MODEL, labelled, with_labels

from dclib.config import ProbeConfig
from dclib.data.pixels import Pixels
from dclib.evaluate import linear_probe as module
from dclib.evaluate.linear_probe import (
    OBJECTS_LR,
    SCENES_LR,
    LinearProbes,
    decayed_lr,
    linear_probe,
    pool_activations,
    pool_kernel,
)
from dclib.models.vgg import Trunk
from dclib.randomness import generator

RGB = replace(TINY_MODEL, stem="rgb", dropout=0.5)
CACHED = ProbeConfig(epochs=3, batch_size=10, augment=False, lr_scale=3.0, weight_decay=1e-2)
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # VGG-16
SIDES = (226, 226, 113, 113, 56, 56, 56, 28, 28, 28, 14, 14, 14)  # maps at 224 pixels
PAPER_DIMS = [9216] * 2 + [8192] * 2 + [9216] * 3 + [8192] * 6


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def trunk() -> Trunk:
    """In training mode, with dropout and odd batch-norm statistics: what a probe must neither use nor change."""
    trunk = Trunk(RGB, generator(3)).train()
    for layer in trunk.features:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator(4))
            layer.running_var.uniform_(0.5, 2.0, generator=generator(5))
    return trunk


def grey_pictures(n: int, seed: int) -> Pixels:
    """Dark, middling and bright pictures under noise; the brightness is the class."""
    rng = generator(seed, "pictures")
    labels = torch.arange(n) % 3
    noise = torch.randint(0, 40, (n, 3, SIDE, SIDE), generator=rng)
    return labelled((noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels.tolist(), 32)


@pytest.fixture(scope="module")
def train() -> Pixels:
    return grey_pictures(33, 0)


@pytest.fixture(scope="module")
def test() -> Pixels:
    return grey_pictures(21, 1)


class Watched(LinearProbes):
    """Keeps what it was made with and given."""

    made: list["Watched"] = []

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.first = [(c.weight.detach().clone(), c.bias.detach().clone()) for c in self.classifiers]
        self.given: list[tuple[list[torch.Tensor], torch.Tensor]] = []
        self.made.append(self)

    def step(self, pooled, labels):
        self.given.append(([x.clone() for x in pooled], labels.clone()))
        return super().step(pooled, labels)


def watch(monkeypatch) -> list[Watched]:
    monkeypatch.setattr(module, "LinearProbes", Watched)
    monkeypatch.setattr(Watched, "made", [])
    return Watched.made


def pooled_by_hooks(trunk: Trunk, pictures: torch.Tensor) -> list[torch.Tensor]:
    """ReLU outputs caught by hooks and averaged window by window; windows worked by hand for 32 pixels.

    Maps are 34, 17, 8, 4, 2 wide; 18 * 34 / 226 = 2.7, 14 * 17 / 113 = 2.1, 9 * 8 / 56 = 1.3, 6 * 4 / 28 = 0.9
    and 3 * 2 / 14 = 0.4 round up to windows of 3, 3, 2, 1, 1.
    """
    windows = [3] * 4 + [2] * 3 + [1] * 6
    caught: list[torch.Tensor] = []
    relus = [layer for layer in trunk.features if isinstance(layer, torch.nn.ReLU)]
    hooks = [relu.register_forward_hook(lambda _, __, out: caught.append(out.clone())) for relu in relus]
    edge = (SIDE - 32) // 2
    trunk.eval()
    with torch.no_grad():
        trunk(pictures[:, :, edge : edge + 32, edge : edge + 32].float() / 255)
    for hook in hooks:
        hook.remove()
    pooled = []
    for maps, window in zip(caught, windows, strict=True):
        side = maps.shape[-1] // window
        blocks = maps[:, :, : side * window, : side * window].unflatten(3, (side, window)).unflatten(2, (side, window))
        pooled.append(blocks.mean(dim=(3, 5)).flatten(1))
    return pooled


def train_alone(first, batches, lr: float, weight_decay: float, momentum: float):
    """One softmax regression by its gradient on paper, in float64; weights, bias and hits at each step."""
    weight, bias = (x.double() for x in first)
    speed_w, speed_b, hits = torch.zeros_like(weight), torch.zeros_like(bias), []
    for t, (x, labels) in enumerate(batches):
        x = x.double()
        scores = x @ weight.T + bias
        hits.append(int((scores.argmax(1) == labels).sum()))
        odds = (scores - scores.max(dim=1, keepdim=True).values).exp()
        error = (odds / odds.sum(dim=1, keepdim=True) - torch.eye(len(bias), dtype=torch.float64)[labels]) / len(x)
        speed_w = momentum * speed_w + error.T @ x + weight_decay * weight
        speed_b = momentum * speed_b + error.sum(dim=0) + weight_decay * bias
        rate = lr * (1 + lr * weight_decay * t) ** -0.5
        weight, bias = weight - rate * speed_w, bias - rate * speed_b
    return weight, bias, hits


# --- sizes and rates


def test_pooled_sizes_are_the_papers():
    maps = [torch.zeros(1, 1, s, s).expand(1, c, s, s) for c, s in zip(CHANNELS, SIDES, strict=True)]
    assert [x.shape[1] for x in pool_activations(maps)] == PAPER_DIMS
    assert [pool_kernel(layer, side) for layer, side in enumerate(SIDES, start=1)] == [18] * 2 + [14] * 2 + [
        *[9] * 3,
        *[6] * 3,
        *[3] * 3,
    ]


def test_pooled_sizes_are_the_papers_for_the_trunk_itself():
    """At width 1/64 all channels are 64 times fewer, and so are the sizes."""
    trunk = Trunk(replace(TINY_MODEL, image_size=224, width=1 / 64, hidden_dim=2, feature_dim=2), generator(0)).eval()
    with torch.no_grad():
        pooled = pool_activations(trunk.conv_activations(torch.rand(1, 3, 224, 224)))
    assert [64 * x.shape[1] for x in pooled] == PAPER_DIMS


@pytest.mark.parametrize("image_size", [30, 32, 64, 96, 128, 192, 224, 256])
def test_pooled_sizes_stay_below_ten_thousand_at_any_input(image_size):
    side, sides = image_size + 2, []
    for block in (2, 2, 3, 3, 3):
        sides += [side] * block
        side //= 2
    for layer, (channels, side) in enumerate(zip(CHANNELS, sides, strict=True), start=1):
        kernel = pool_kernel(layer, side)
        assert 1 <= kernel <= side
        assert channels * (side // kernel) ** 2 < 10_000


def test_pooling_takes_means_of_whole_windows():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    others = [torch.zeros(1, 1, 2, 2)] * 12
    # 4 of 226 pixels: 18 * 4 / 226 rounds up to 1, every pixel for itself
    assert pool_activations([maps, *others])[0].tolist() == [list(range(16))]
    # for layer 5, 9 * 13 / 56 = 2.09 rounds up to 3: 4 windows of 3 in 13 pixels, the last pixel is left over
    maps = torch.rand(2, 3, 13, 13, generator=generator(0))
    fifth = pool_activations([*others[:4], maps, *others[:8]])[4].view(2, 3, 4, 4)
    torch.testing.assert_close(fifth[1, 2, 3, 0], maps[1, 2, 9:12, 0:3].mean())


def test_maps_are_pooled_as_they_are_made_and_freed(trunk, train, monkeypatch):
    """At 224 pixels all 13 of a batch of 256 would be 14 GB. What is left of a map is its pooled copy, bit for bit."""
    trunk.eval()
    images = next(train.centre_batches(5)).to(memory_format=torch.channels_last)  # as a probe has them
    with torch.no_grad():
        together = [maps.clone() for maps in trunk.conv_activations(images)]
    made, alive, activations = [], [], Trunk.conv_activations

    def watched(self, images):
        for maps in activations(self, images):
            made.append(weakref.ref(maps))
            alive.append(sum(one() is not None for one in made))
            yield maps
            del maps

    monkeypatch.setattr(Trunk, "conv_activations", watched)
    pooled = module._pooled(trunk, images, torch.device("cpu"))
    assert len(made) == 13
    assert max(alive) == 1  # no other when a map has just been made
    assert [one() for one in made] == [None] * 13
    assert all(torch.equal(a, b) for a, b in zip(pooled, pool_activations(together), strict=True))


@pytest.mark.parametrize("augment", [True, False])
def test_all_thirteen_are_trained_in_one_pass_over_the_images(trunk, train, test, monkeypatch, augment):
    made, passes, activations = watch(monkeypatch), [], Trunk.conv_activations
    monkeypatch.setattr(Trunk, "conv_activations", lambda self, x: passes.append(len(x)) or activations(self, x))
    result = linear_probe(trunk, train, test, replace(CACHED, augment=augment, epochs=2))
    # two images to learn the sizes; the training images once, or once an epoch; the test images
    assert sum(passes) == 2 + (2 if augment else 1) * 33 + 21
    assert len(made) == 1
    assert {len(pooled) for pooled, _ in made[0].given} == {13}
    assert len(result.top1) == 13


def test_learning_rates_decay_as_stated():
    assert decayed_lr(0.02, 1e-5, 0) == 0.02
    assert 100 * (1 - decayed_lr(0.02, 1e-5, 500_500) / 0.02) == pytest.approx(4.7, abs=0.05)
    assert 100 * (1 - decayed_lr(0.03, 1e-5, 500_500) / 0.03) == pytest.approx(7.0, abs=0.3)
    assert decayed_lr(0.03, 1e-5, 500_500) == pytest.approx(0.03 / math.sqrt(1.15015), rel=1e-12)


def test_learning_rates_are_those_of_the_protocol():
    assert list(OBJECTS_LR) == [0.005, 0.01, *[0.03] * 4, 0.02, *[0.03] * 3, *[0.02] * 3]
    assert list(SCENES_LR) == [0.003, 0.005, *[0.01] * 7, 0.03, 0.01, 0.01, 0.02]


# --- training


def test_thirteen_at_once_are_thirteen_alone(trunk, train, test, monkeypatch):
    made = watch(monkeypatch)
    result = linear_probe(trunk, train, test, CACHED, learning_rates=OBJECTS_LR, seed=7)
    (probes,) = made
    hand_made, edge_free = pooled_by_hooks(trunk, train.decoded), pooled_by_hooks(trunk, test.decoded)
    labels, truth = torch.tensor(train.images.labels), torch.tensor(test.images.labels)
    assert [x.shape[1] for x in hand_made] == [484, 484, 200, 200, 256, 256, 256, 512, 512, 512, 128, 128, 128]
    assert len(probes.given) == 3 * 4  # 33 images in batches of 10, 10, 10 and 3, three times
    for layer in range(13):
        batches = [(pooled[layer], target) for pooled, target in probes.given]
        weight, bias, hits = train_alone(probes.first[layer], batches, 3 * OBJECTS_LR[layer], 1e-2, 0.9)
        classifier = probes.classifiers[layer]
        # float32 against float64 over twelve steps of momentum, on weights of size 0.1
        torch.testing.assert_close(classifier.weight.double(), weight, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(classifier.bias.double(), bias, rtol=1e-3, atol=1e-5)
        assert result.train_top1[layer] == pytest.approx(100 * sum(hits[-4:]) / 33)
        right = int(((edge_free[layer].double() @ weight.T + bias).argmax(1) == truth).sum())
        assert result.top1[layer] == pytest.approx(100 * right / 21)
        # each epoch gives every image once, under its own label, with the features of the plain loop
        for epoch in range(3):
            given = probes.given[4 * epoch : 4 * epoch + 4]
            rows, targets = torch.cat([p[layer] for p, _ in given]), torch.cat([t for _, t in given])
            order = torch.cdist(rows.double(), hand_made[layer].double()).argmin(dim=1)
            assert sorted(order.tolist()) == list(range(33))
            assert torch.equal(targets, labels[order])
            torch.testing.assert_close(rows, hand_made[layer][order], rtol=1e-4, atol=1e-5)
    assert (result.n_train, result.n_test) == (33, 21)


def test_first_weights_follow_the_law_of_a_linear_layer(trunk, train, test, monkeypatch):
    made = watch(monkeypatch)
    linear_probe(trunk, train, test, replace(CACHED, epochs=1))
    for weight, bias in made[0].first:
        bound = weight.shape[1] ** -0.5
        assert weight.abs().max() <= bound
        assert bias.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)  # of a uniform law


def test_order_changes_from_epoch_to_epoch_and_with_the_seed(trunk, train, test, monkeypatch):
    made = watch(monkeypatch)
    for seed in (0, 1):
        linear_probe(trunk, train, test, replace(CACHED, epochs=2), seed=seed)
    labels = [torch.cat([t for _, t in m.given]).split(33) for m in made]
    assert len({tuple(epoch.tolist()) for run in labels for epoch in run}) == 4


def test_same_seed_gives_the_same_result(trunk, train, test):
    config = replace(CACHED, augment=True, epochs=2)
    one, two = (linear_probe(trunk, train, test, config, seed=5) for _ in range(2))
    assert one == two


def test_scale_multiplies_the_rates(trunk, train, test, monkeypatch):
    made = watch(monkeypatch)
    linear_probe(trunk, train, test, replace(CACHED, epochs=1, lr_scale=2.0), learning_rates=[0.01] * 13)
    linear_probe(trunk, train, test, replace(CACHED, epochs=1, lr_scale=1.0), learning_rates=[0.02] * 13)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(made[0].classifiers, made[1].classifiers, strict=True))


@pytest.mark.parametrize("augment", [True, False])
def test_trunk_is_frozen_statistics_included(trunk, train, test, augment):
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    linear_probe(trunk, train, test, replace(CACHED, augment=augment, epochs=1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())
    assert all(parameter.grad is None for parameter in trunk.parameters())
    assert {layer.training for layer in trunk.modules()} == {True}
    trunk.eval()
    linear_probe(trunk, train, test, replace(CACHED, augment=augment, epochs=1))
    assert not trunk.training


@pytest.mark.parametrize("augment", [True, False])
def test_random_state_of_the_caller_is_untouched(trunk, train, test, augment):
    before = torch.get_rng_state()
    linear_probe(trunk, train, test, replace(CACHED, augment=augment, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_augmented_epochs_see_new_crops_under_the_right_labels(trunk, train, test, monkeypatch):
    made, crop_batches, seeds = watch(monkeypatch), Pixels.crop_batches, []

    def watched(self, batches, area, drawn):
        seeds.extend(drawn)
        assert area == 0.08  # torchvision's default, as in the paper
        return crop_batches(self, batches, area, drawn)

    monkeypatch.setattr(Pixels, "crop_batches", watched)
    linear_probe(trunk, train, test, replace(CACHED, augment=True, epochs=2))
    assert len(set(seeds)) == len(seeds) == 8  # two epochs of four batches, each with boxes of its own
    centre = pooled_by_hooks(trunk, train.decoded)[0]
    labels = torch.tensor(train.images.labels)
    epochs = [made[0].given[:4], made[0].given[4:]]
    rows = [torch.cat([pooled[0] for pooled, _ in epoch]) for epoch in epochs]
    for features, epoch in zip(rows, epochs, strict=True):
        targets = torch.cat([t for _, t in epoch])
        assert torch.bincount(targets).tolist() == [11, 11, 11]
        # a crop is nearest in brightness, so in features, to centre crops of its own class
        assert torch.equal(labels[torch.cdist(features, centre).argmin(dim=1)], targets)
    assert torch.cdist(*rows).min() > 1e-3  # no crop comes twice


@pytest.mark.parametrize("augment", [True, False])
def test_what_a_line_can_tell_apart_is_told_apart(trunk, train, test, augment):
    config = ProbeConfig(epochs=25, batch_size=11, augment=augment)
    result = linear_probe(trunk, train, test, config)
    assert min(result.top1[:4]) > 95  # three grey levels; chance is 33
    assert min(result.train_top1[:4]) > 95


def test_score_is_about_the_test_images(trunk, train, test):
    """With every label moved on by one, what was right is wrong."""
    moved = with_labels(test, (test.images.labels + 1) % 3)
    result = linear_probe(trunk, train, moved, ProbeConfig(epochs=25, batch_size=11, augment=False))
    assert max(result.top1[:4]) < 5
    assert min(result.train_top1[:4]) > 95


def test_progress_is_reported_a_few_times(trunk, train, test):
    lines: list[str] = []
    linear_probe(trunk, train, test, replace(CACHED, epochs=8), report=lines.append)
    assert [line.split(":")[0] for line in lines] == [f"probe epoch {e}/8" for e in (2, 4, 6, 8)]


# --- what is refused


def only(pixels: Pixels, label: int) -> Pixels:
    rows = np.flatnonzero(pixels.images.labels == label)
    return replace(pixels, images=pixels.images.subset(rows), decoded=pixels.decoded[torch.from_numpy(rows)])


def test_sets_without_two_classes_are_refused(trunk, train, test, monkeypatch):
    monkeypatch.setattr(Trunk, "conv_activations", lambda *_: pytest.fail("computed before the check"))
    for pair in [(only(train, 1), test), (train, only(test, 1))]:
        with pytest.raises(ValueError, match="at least two classes; made has 1 class: .*sub-folder per class"):
            linear_probe(trunk, *pair, CACHED)
    for pair in [(with_labels(train, None), test), (train, with_labels(test, None))]:
        with pytest.raises(ValueError, match="at least two classes; made has no classes"):
            linear_probe(trunk, *pair, CACHED)


def test_sets_with_other_classes_are_refused_with_their_names(trunk, train, test):
    other = replace(test, images=replace(test.images, classes=("a", "b", "z")))
    with pytest.raises(ValueError, match="in one set only: c, z"):
        linear_probe(trunk, train, other, CACHED)


def test_learning_rates_must_be_thirteen(trunk, train, test):
    with pytest.raises(ValueError, match="."):
        linear_probe(trunk, train, test, CACHED, learning_rates=[0.1] * 12)


def test_cross_entropy_of_the_first_step_is_near_chance(trunk, train, test, monkeypatch):
    """Nothing in front of the loss: logits go into it as they are."""
    made = watch(monkeypatch)
    linear_probe(trunk, train, test, replace(CACHED, epochs=1))
    (pooled, labels), (weight, bias) = made[0].given[0], made[0].first[12]
    loss = F.cross_entropy(pooled[12] @ weight.T + bias, labels)
    assert float(loss) == pytest.approx(math.log(3), abs=0.5)
