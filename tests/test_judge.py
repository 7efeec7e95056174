"""The verdict without labels: measures against oracles written another way, words on features whose truth is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dclib.analysis.judge import FEWEST, Verdict, judge, rise, verdict_of
from dclib.analysis.measures import SAMPLE, sample, share_of_copies
from dclib.config import ModelConfig
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.pixels import Pixels
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train.quality import (
    agreement,
    effective_rank,
    found_again,
    is_alive,
    score_of,
    share_explained,
    spectrum,
    steadiness,
)

N, SIDE = 240, 32
TINY = ModelConfig(image_size=SIDE, width=1 / 16, hidden_dim=8, feature_dim=16, dropout=0.0)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# measures


@pytest.mark.parametrize("variances", [(1.0, 1.0, 1.0, 1.0), (8.0, 4.0, 2.0, 1.0), (1.0, 0.0, 0.0, 0.0)])
def test_effective_rank_of_a_known_spectrum(variances):
    """By a product of powers instead of logarithms: exp(-sum p ln p) = prod p^-p. Rounding of float64 alone."""
    total = sum(variances)
    expected = math.prod((v / total) ** (-v / total) for v in variances if v)
    assert effective_rank(torch.tensor(variances)) == pytest.approx(expected, rel=1e-12)


def test_spectrum_is_that_of_the_covariance():
    """Singular values here, NumPy's eigenvalues of the covariance there; float64, 50 x 6."""
    features = torch.randn(50, 6, generator=rng()).double() * torch.arange(1.0, 7.0)
    values = np.linalg.eigvalsh(np.cov(features.numpy().T))[::-1]
    np.testing.assert_allclose(spectrum(features), values / values.sum(), rtol=1e-10)


def test_agreement_is_1_for_other_names_and_0_for_chance_and_for_a_single_cluster():
    draws = np.random.default_rng(0)
    one, other = draws.integers(0, 5, 4000), draws.integers(0, 5, 4000)
    assert agreement(one, (one + 2) % 5) == pytest.approx(1)
    assert abs(agreement(one, other)) < 0.005  # chance gives 1 / (2 n) nats for each of 16 degrees of freedom
    assert agreement(np.zeros(9, dtype=int), np.zeros(9, dtype=int)) == 0.0


def test_found_again_is_a_loop_over_images():
    one = torch.randn(40, 5, generator=rng())
    other = one + 0.7 * torch.randn(40, 5, generator=rng(1))
    points, views = one - one.mean(dim=0), other - one.mean(dim=0)
    cosine = torch.nn.functional.cosine_similarity
    right = sum(int(cosine(p[None], views).argmax()) == i for i, p in enumerate(points))
    assert 0 < right < 40
    assert found_again(one, other) == pytest.approx(right / 40)
    assert found_again(torch.ones(9, 3), torch.ones(9, 3)) == 0.0  # ties are not found


def test_share_explained_is_0_by_chance_and_1_of_the_groups_themselves():
    draws = np.random.default_rng(0)
    colours, groups = draws.normal(size=(3000, 3)), draws.integers(0, 10, 3000)
    assert abs(share_explained(colours, groups)) < 0.01  # its deviation is near sqrt(2 * 9 / 3) / 3000
    many = np.arange(200) % 50  # unadjusted they would explain a quarter; the deviation is near sqrt(2 * 49 / 3) / 150
    assert abs(share_explained(colours[:200], many)) < 0.12
    assert share_explained(np.eye(10)[groups], groups) == pytest.approx(1)
    assert share_explained(colours[:5], np.arange(5)) == 0.0  # as many clusters as images


def test_steadiness_of_groups_and_of_noise():
    """Ten groups far apart hold against small changes and other starts; directions of noise hold against neither."""
    groups = 20 * torch.randn(10, 16, generator=rng())[torch.arange(N) % 10]
    near = [groups + torch.randn(N, 16, generator=rng(s)) for s in range(3)]
    noise = [torch.randn(N, 16, generator=rng(s)) for s in range(3)]
    cropped, starts = steadiness(near[0], near[1:])
    assert cropped > 0.9
    assert starts > 0.6  # five clusters of ten groups join other groups from each start
    cropped, starts = steadiness(noise[0], noise[1:])
    assert abs(cropped) < 0.05
    assert starts < 0.3


@pytest.mark.parametrize("n", [4, 9, 30])
def test_few_images_are_no_error(n):
    features = torch.randn(n, 6, generator=rng())
    assert all(-1 <= value <= 1 for value in steadiness(features, [features]))


def test_score_is_what_holds_less_what_colour_explains():
    assert score_of(0.6, 0.0, 2.0) == pytest.approx(0.6)
    assert score_of(0.6, 0.2, 2.0) == pytest.approx(0.36)
    assert [score_of(0.6, 0.5, 2.0), score_of(0.6, 0.9, 2.0), score_of(-0.1, 0.1, 2.0)] == [0, 0, 0]
    assert score_of(0.6, 0.0, 1.1) == 0  # along one line
    assert score_of(0.6, -0.01, 2.0) == pytest.approx(0.6)  # less than chance is no merit


def test_dead_features_are_told():
    lively = torch.randn(20, 4, generator=rng())
    rounding = torch.full((20, 4), 3.0)
    rounding[0, 0] += 1e-6
    broken = lively.clone()
    broken[3, 2] = math.nan
    assert is_alive(lively)
    assert is_alive(1e-6 * lively)  # small is not the same
    assert not any(map(is_alive, (rounding, broken, lively[:1], torch.zeros(20, 4))))


# verdicts


class Nowhere:
    """Stands where the images' bytes would come from: they are decoded."""

    def read(self, image_id: str) -> bytes:
        raise AssertionError(image_id)


class Shown(nn.Module):
    """Stands for a trunk: features are any function of the pictures, (b, 3, h, w) in [0, 1]."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.config = function, TINY
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images.float() / 255 if images.dtype == torch.uint8 else images)


def pictures(n: int = N, seed: int = 0) -> Pixels:
    """Stripes of six directions, in colours that have nothing to do with them."""
    draws = np.random.default_rng(seed)
    angle = np.pi * (np.arange(n) % 6) / 6
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    phase = 2 * np.pi * draws.random(n)
    stripes = np.sin(25 * (np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y) + phase[:, None, None])
    colours = 40 + 100 * draws.random((n, 3))
    decoded = colours[:, :, None, None] + 40 * stripes[:, None] + 3 * draws.normal(size=(n, 3, SIDE, SIDE))
    ids = NumberedIds(np.arange(n), 6)
    return Pixels(
        ImageSet("stripes", ids, Nowhere()), (), SIDE, SIDE, torch.from_numpy(decoded.clip(0, 255).astype("u1"))
    )


def directions(images: Tensor) -> Tensor:
    """Energy of differences in several directions, whatever the colour."""
    grey = images.mean(dim=1)
    steps = [(1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2)]
    found = [(grey - grey.roll(step, (1, 2)))[:, 3:-3, 3:-3].abs().mean(dim=(1, 2)) for step in steps]
    energy = torch.stack(found, dim=1)
    return energy / energy.sum(dim=1, keepdim=True)


def noise(images: Tensor) -> Tensor:
    return torch.randn(len(images), 8, generator=rng(int(1e6 * float(images.float().mean()))))


def judged(function: Callable[[Tensor], Tensor], pixels: Pixels | None = None, **changed) -> Verdict:
    return judge(Shown(function), pixels or pictures(), changed.pop("history", []), seconds_per_epoch=90.0, **changed)


def test_features_that_tell_kinds_apart_are_learned():
    verdict = judged(directions)
    assert verdict.word == "learned"
    assert verdict.score > 0.3 > verdict.measures["colour"]
    assert verdict.measures["images"] == N


def test_noise_is_nothing_learned():
    verdict = judged(noise)
    assert verdict.word == "nothing learned"
    assert verdict.score < 0.05


def test_clusters_of_colour_are_told_though_they_hold():
    verdict = judged(lambda images: images.mean(dim=(2, 3)))
    assert verdict.word == "collapsed to colour"
    assert verdict.measures["colour"] > 0.6
    assert verdict.measures["cropped"] > 0.3  # they hold under crops
    assert verdict.score == 0.0


def test_features_along_one_line_are_nothing_learned():
    verdict = judged(lambda images: directions(images)[:, :1] * torch.tensor([1.0, 2.0, 3.0]), history=[row(1, 50, 50)])
    assert verdict.word == "nothing learned"
    assert "one line" in verdict.sentence
    assert verdict.measures["effective_rank"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda images: torch.full((len(images), 4), 2.0),
        lambda images: torch.full((len(images), 4), math.nan),
        lambda images: images.mean(dim=(1, 2, 3))[:, None] * torch.tensor([1.0, math.inf]),
    ],
    ids=["constant", "not a number", "infinite"],
)
def test_broken_features_give_a_verdict(function):
    verdict = judged(function)
    assert (verdict.word, verdict.score) == ("nothing learned", 0.0)
    assert "not finite, or the same" in verdict.sentence
    assert len(verdict.lines) > 2


def test_a_real_trunk_is_judged_twice_alike_and_left_as_it_was():
    trunk = Trunk(TINY, generator(0, "trunk")).train()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    pixels = pictures(80)
    one, other = (judge(trunk, pixels, [], seconds_per_epoch=1.0) for _ in range(2))
    assert one == other
    assert one.word == "nothing learned"  # it is a network that was only drawn
    assert trunk.training
    assert all(torch.equal(before[name], value) for name, value in trunk.state_dict().items())


def test_too_few_images_are_said():
    verdict = judged(directions, pictures(FEWEST - 1))
    assert verdict.word == "nothing learned"
    assert f"{FEWEST - 1} different images" in verdict.sentence


def test_copies_are_judged_once_and_blamed_where_nothing_else_was_learned():
    pixels = pictures(60)
    assert pixels.decoded is not None
    many = replace(
        pixels,
        images=ImageSet("copies", NumberedIds(np.arange(240), 6), Nowhere()),
        decoded=pixels.decoded.repeat(4, 1, 1, 1),
    )
    groups = np.tile(np.arange(60, dtype=np.int32), 4)
    blamed = judged(noise, many, duplicates=groups)
    assert blamed.word == "collapsed to duplicates"
    assert blamed.measures["images"] == 60
    assert blamed.measures["copies"] == pytest.approx(180 / 240)
    fine = judged(directions, many, duplicates=groups)
    assert fine.word == "learned"
    assert fine.measures["copies_found"] == 1.0
    alone = judged(directions, duplicates=np.full(N, -1, dtype=np.int32))
    assert alone.measures["copies"] == 0.0
    assert "copies_found" not in alone.measures


def test_one_image_of_each_group_is_looked_at():
    groups = np.array([3, -1, 3, 3, -1, 7, 7], dtype=np.int32)
    chosen = sample(groups)
    assert Counter(groups[chosen].tolist()) == {3: 1, -1: 2, 7: 1}
    assert share_of_copies(groups) == pytest.approx(3 / 7)
    assert len(sample(np.full(5000, -1, dtype=np.int32))) == SAMPLE


def row(epoch: int, turn: float, sub: float, lr: float = 0.1) -> dict[str, float]:
    asked = {"turn_accuracy": turn, "turn_chance": 25.0, "sub_accuracy": sub, "sub_chance": 10.0}
    return {"epoch": epoch, "loss": 1.0, "lr": lr, **asked}


def test_rise_is_that_of_a_doubling_before_the_rate_falls_and_of_the_task_that_rose_most():
    curve = [row(1, 30, 10), row(2, 50, 20), row(3, 60, 20), row(4, 63, 35), row(5, 99, 99, lr=0.01)]
    assert rise(curve) == 35 - 20  # from two epochs to four
    assert rise(curve[:2]) == 50 - 30
    assert rise(curve[:1]) == 30 - 25  # from chance
    assert rise([row(1, 30, 50), row(2, 20, 40)]) == 0.0
    assert rise([]) == 0.0
    assert rise([{"assignment": 0, "nmi_previous": 0.3}, *curve[:2]]) == 50 - 30


@pytest.mark.parametrize(
    ("gain", "rise", "changed", "word", "said"),
    [
        (0.3, 0.0, {}, "learned", "Use it; look at the clusters, the steadiest first."),
        (0.3, 20.0, {}, "learned", "as long again, 3 min"),  # clear, and it may get better
        (0.06, 20.0, {}, "still learning", "3 more minutes"),
        (0.06, 0.0, {}, "learned", "the steadiest first."),
        (0.0, 20.0, {}, "still learning", "3 more minutes"),
        (0.0, 0.0, {}, "nothing learned", "Train longer"),
        (-0.07, 20.0, {}, "nothing learned", "take another method"),  # it learns, and nothing about these images
        (0.3, 20.0, {"colour": 0.5}, "collapsed to colour", "sobel"),
        (0.0, 20.0, {"copies": 0.6}, "collapsed to duplicates", "60%"),
        (0.3, 0.0, {"copies": 0.6}, "learned", "the steadiest first."),
        (0.3, 20.0, {"effective_rank": 1.1}, "nothing learned", "one line"),
    ],
)
def test_the_word_follows_from_the_lead_and_whether_it_would_go_on(gain, rise, changed, word, said):
    measures = {"score": 0.1 + gain, "drawn": 0.1, "colour": 0.2, "effective_rank": 7.0, "rise": rise, **changed}
    verdict = verdict_of(measures, [], 150.0)
    assert verdict.word == word
    assert said in f"{verdict.sentence} {verdict.advice}"


def test_time_that_is_missing_is_as_long_again():
    verdict = judged(directions, history=[row(1, 30, 10), row(2, 60, 30)])
    assert verdict.measures["rise"] == 30
    assert "as long again, 3 min" in verdict.advice  # two epochs of 90 s
    assert "at chance" not in verdict.sentence
    assert "as long again" not in judged(directions, history=[row(1, 80, 50), row(2, 80, 50)]).advice


def test_tasks_at_chance_are_named():
    verdict = judged(directions, history=[row(1, 25, 50), row(2, 25, 50)])
    assert verdict.word == "learned"
    assert "at chance: turns" in verdict.sentence


def test_each_measure_is_in_words():
    measures = {"score": 0.5, "drawn": 0.1, "colour": 0.2, "images": 100.0, "copies": 0.3, "effective_rank": 7.0}
    measures["rise"] = 2.0
    lines = verdict_of(measures, [], 0.0).lines
    assert lines[0].startswith("learned: ")
    assert len(lines) == 2 + len(measures)
    assert any("30%" in line for line in lines)
