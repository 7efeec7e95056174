"""What an epoch shows: equal shares for sub-classes, for super-classes and in every batch; the same on every rerun."""

from collections import Counter

import pytest
import torch

from dclib.data.samplers import EpochPlan, plan_epoch, uniform_sample


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_labels(sizes: list[int]) -> torch.Tensor:
    """``sizes[i]`` images of label i, in mixed order."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=rng(9))]


def make_plan(**changes) -> EpochPlan:
    super_cluster = torch.tensor([0] * 90 + [1] * 7)  # very unequal super-clusters
    sub_class = torch.cat([torch.arange(90) % 5, torch.tensor([0, 0, 0, 0, 0, 1, 2])])
    options = {"n_super": 2, "n_turns": 4, "epoch_images": 160, "batch_size": 16, "seed": 0, "epoch": 0, **changes}
    return plan_epoch(super_cluster, sub_class, **options)


# --- one super-class


@pytest.mark.parametrize("count", [1, 4, 7, 50, 333])
def test_labels_are_shown_equally_often_to_within_one(count):
    labels = make_labels([100, 1, 5, 30])
    chosen = uniform_sample(labels, count, rng())
    assert chosen.shape == (count,)
    shown = torch.bincount(labels[chosen], minlength=4)
    assert int(shown.max() - shown.min()) <= 1


def test_large_labels_are_drawn_without_replacement():
    labels = make_labels([100, 60])
    chosen = uniform_sample(labels, 120, rng())  # 60 of each: all of one label, 60 of 100 of the other
    assert len(set(chosen.tolist())) == 120


def test_members_of_a_small_label_are_shown_equally_often_to_within_one():
    labels = make_labels([100, 3, 7])
    chosen = uniform_sample(labels, 150, rng())
    for label in (1, 2):
        members = (labels == label).nonzero().squeeze(1).tolist()
        shown = Counter(chosen[labels[chosen] == label].tolist())
        assert set(shown) == set(members)
        assert max(shown.values()) - min(shown.values()) <= 1


def test_labels_without_images_are_passed_over():
    labels = torch.tensor([2, 2, 7, 7, 7])
    shown = torch.bincount(labels[uniform_sample(labels, 10, rng())])
    assert shown.tolist() == [0, 0, 5, 0, 0, 0, 0, 5]


def test_the_order_is_random_and_the_generator_decides_it():
    labels = make_labels([40, 40])
    first, again, other = (uniform_sample(labels, 60, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    switches = int((labels[first][1:] != labels[first][:-1]).sum())
    assert 15 < switches < 45  # 30 expected of a random order, sigma about 4; sorted labels have 1


def test_every_image_of_a_large_label_is_as_likely():
    labels = torch.zeros(10, dtype=torch.int64)
    draws = rng()
    shown = torch.zeros(10)
    for _ in range(1000):
        shown[uniform_sample(labels, 3, draws)] += 1
    # binomial, 1000 draws of probability 0.3: sigma 14.5
    assert (shown - 300).abs().max() < 5 * 14.5


# --- one epoch


def test_super_class_is_turns_times_super_cluster_plus_turn():
    plan = make_plan()
    super_cluster = (plan.index >= 90).long()
    assert torch.equal(plan.super_class, 4 * super_cluster + plan.turn)
    assert torch.equal(plan.super_class // 4, super_cluster)
    assert torch.equal(plan.super_class % 4, plan.turn)
    assert set(plan.super_class.tolist()) == set(range(8))


def test_sub_classes_are_those_of_the_images():
    plan = make_plan()
    sub_class = torch.cat([torch.arange(90) % 5, torch.tensor([0, 0, 0, 0, 0, 1, 2])])
    assert torch.equal(plan.sub_class, sub_class[plan.index])


@pytest.mark.parametrize(("n_turns", "batch_size"), [(4, 16), (4, 12), (4, 5), (1, 16), (1, 3)])
def test_batches_are_full_and_balanced_over_super_classes(n_turns, batch_size):
    plan = make_plan(n_turns=n_turns, batch_size=batch_size)
    assert len(plan) == round(160 / batch_size)
    for step in range(len(plan)):
        shown = torch.bincount(plan.super_class[plan.batch(step)], minlength=2 * n_turns)
        assert int(shown.sum()) == batch_size
        assert int(shown.max() - shown.min()) <= 1


def test_batches_cover_the_epoch_once():
    plan = make_plan()
    rows = torch.cat([torch.arange(len(plan.index))[plan.batch(step)] for step in range(len(plan))])
    assert torch.equal(rows, torch.arange(len(plan.index)))


def test_sub_classes_are_shown_equally_often_within_a_super_class():
    plan = make_plan()
    for super_class, n_sub in [(s, 5 if s < 4 else 3) for s in range(8)]:
        shown = torch.bincount(plan.sub_class[plan.super_class == super_class])
        assert len(shown) == n_sub
        assert int(shown.max() - shown.min()) <= 1


def test_the_turns_of_a_super_cluster_are_sampled_independently():
    plan = make_plan(epoch_images=320)  # 40 of 90 images for each turn of the first super-cluster
    samples = [set(plan.index[plan.super_class == turn].tolist()) for turn in range(4)]
    assert len({frozenset(sample) for sample in samples}) == 4


def test_seed_and_epoch_decide_everything():
    first, again = make_plan(), make_plan()
    for column in ("index", "turn", "super_class", "sub_class"):
        assert torch.equal(getattr(first, column), getattr(again, column))
    for change in ({"epoch": 1}, {"seed": 1}):
        assert not torch.equal(make_plan(**change).index, first.index)


def test_planning_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    make_plan()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("epoch_images", "batches"), [(160, 10), (167, 10), (169, 11), (3, 1)])
def test_epochs_have_whole_batches_and_at_least_one(epoch_images, batches):
    plan = make_plan(epoch_images=epoch_images)
    assert len(plan) == batches
    assert len(plan.index) == 16 * batches


def test_a_super_cluster_without_images_is_refused():
    with pytest.raises(ValueError, match="super-cluster 2 has no image; use fewer super-clusters"):
        make_plan(n_super=3)


def test_one_class_of_everything_shows_each_image_once():
    zeros = torch.zeros(32, dtype=torch.int64)
    plan = plan_epoch(zeros, zeros, n_super=1, n_turns=1, epoch_images=32, batch_size=8, seed=0, epoch=0)
    assert sorted(plan.index.tolist()) == list(range(32))
    assert plan.turn.tolist() == [0] * 32
