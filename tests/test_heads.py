"""The heads and the joint loss: a plain loop over images, and the gradients of the released many-process layout."""

import math

import pytest
import torch
import torch.nn.functional as F
from tensor_watch import MadeTensors

from dclib.models.heads import Heads, joint_loss, scale_gradient

# float64 sums of some 50 numbers near 1
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def make_heads(d: int, s: int, k: int, seed: int = 0) -> Heads:
    return Heads(d, s, k, torch.Generator().manual_seed(seed)).double()


def make_batch(b: int, d: int, s: int, k: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, and labels with b / s images of each super-class, in mixed order."""
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(b, d, generator=draws, dtype=torch.float64)
    super_class = (torch.arange(b) % s)[torch.randperm(b, generator=draws)]
    return features, super_class, torch.randint(k, (b,), generator=draws)


def cross_entropy_of_one(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, target: int) -> torch.Tensor:
    scores = [(weight[c] * x).sum() + bias[c] for c in range(len(weight))]
    return torch.log(sum(score.exp() for score in scores)) - scores[target]


def loss_by_loop(heads, features, super_class, sub_class) -> torch.Tensor:
    """The paper's formula, image by image."""
    total = features.new_zeros(())
    for x, y, z in zip(features, super_class.tolist(), sub_class.tolist(), strict=True):
        seen = torch.where(x > 0, x, torch.zeros_like(x))
        total = total + cross_entropy_of_one(heads.super_weight, heads.super_bias, seen, y)
        total = total + cross_entropy_of_one(heads.sub_weight[y], heads.sub_bias[y], seen, z)
    return total / len(features)


@pytest.mark.parametrize("mode", ["group_mean", "global_mean"])
def test_loss_matches_a_loop_over_images(mode):
    heads = make_heads(5, 4, 3)
    batch = make_batch(12, 5, 4, 3)
    actual = joint_loss(heads, *batch, sub_head_gradient=mode).loss
    torch.testing.assert_close(actual, loss_by_loop(heads, *batch), **EXACT)


def test_global_mean_has_the_gradient_of_the_formula():
    heads = make_heads(5, 4, 3)
    features, *labels = make_batch(10, 5, 4, 3)  # unequal shares: the formula does not ask for equal ones
    inputs = [features.requires_grad_(), *heads.parameters()]
    actual = torch.autograd.grad(joint_loss(heads, features, *labels, sub_head_gradient="global_mean").loss, inputs)
    expected = torch.autograd.grad(loss_by_loop(heads, features, *labels), inputs)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, **EXACT)


def gradients_of_processes(trunk, heads, images, super_class, sub_class, per_group: int):
    """What the released code computes: each process sees one super-class and has that super-class's head only.

    Trunk and super-class head average their gradients over all processes, a sub-class head over its own group.
    """
    s = heads.n_super_classes
    trunk_grad, super_grads = torch.zeros_like(trunk), [torch.zeros_like(p) for p in heads.super_parameters()]
    sub_grads = [torch.zeros_like(p) for p in heads.sub_parameters()]
    for group in range(s):
        for images_of_rank in (super_class == group).nonzero().squeeze(1).chunk(per_group):
            head = [heads.sub_weight[group].detach().requires_grad_(), heads.sub_bias[group].detach().requires_grad_()]
            features = F.relu(images[images_of_rank] @ trunk)
            loss = F.cross_entropy(F.linear(features, *heads.super_parameters()), super_class[images_of_rank])
            loss = loss + F.cross_entropy(F.linear(features, *head), sub_class[images_of_rank])
            grads = torch.autograd.grad(loss, [trunk, *heads.super_parameters(), *head])
            trunk_grad += grads[0] / (s * per_group)
            for total, grad in zip(super_grads, grads[1:3], strict=True):
                total += grad / (s * per_group)
            for total, grad in zip(sub_grads, grads[3:], strict=True):
                total[group] += grad / per_group
    return [trunk_grad, *super_grads, *sub_grads]


@pytest.mark.parametrize("per_group", [1, 2])
def test_group_mean_gives_the_gradients_of_one_process_per_super_class(per_group):
    s, k = 4, 3
    draws = torch.Generator().manual_seed(3)
    trunk = torch.randn(6, 5, generator=draws, dtype=torch.float64).requires_grad_()
    heads = make_heads(5, s, k)
    images, *labels = make_batch(s * 4, 6, s, k)
    expected = gradients_of_processes(trunk, heads, images, *labels, per_group)
    loss = joint_loss(heads, images @ trunk, *labels, sub_head_gradient="group_mean").loss
    actual = torch.autograd.grad(loss, [trunk, *heads.super_parameters(), *heads.sub_parameters()])
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, **EXACT)


def test_the_two_modes_differ_by_s_in_the_sub_heads_and_nowhere_else():
    heads = make_heads(5, 4, 3)
    features, *labels = make_batch(12, 5, 4, 3)
    inputs = [features.requires_grad_(), *heads.super_parameters(), *heads.sub_parameters()]
    group, whole = (
        torch.autograd.grad(joint_loss(heads, features, *labels, sub_head_gradient=mode).loss, inputs)
        for mode in ("group_mean", "global_mean")
    )
    for i, (a, b) in enumerate(zip(group, whole, strict=True)):
        torch.testing.assert_close(a, b * (4 if i >= 3 else 1), **EXACT)


def test_one_super_class_leaves_the_sub_class_loss_alone():
    heads = make_heads(5, 1, 7)
    features, super_class, sub_class = make_batch(9, 5, 1, 7)
    result = joint_loss(heads, features, super_class, sub_class)
    logits = F.linear(F.relu(features), heads.sub_weight[0], heads.sub_bias[0])
    torch.testing.assert_close(result.loss, F.cross_entropy(logits, sub_class), **EXACT)
    result.loss.backward()
    assert heads.super_weight.grad is None  # so that no weight decay touches a head that asks nothing
    assert heads.sub_weight.grad is not None
    assert int(result.super_hits) == 0


def test_one_sub_class_leaves_the_super_class_loss_alone():
    heads = make_heads(5, 4, 1)
    features, super_class, sub_class = make_batch(8, 5, 4, 1)
    result = joint_loss(heads, features, super_class, sub_class)
    logits = F.linear(F.relu(features), heads.super_weight, heads.super_bias)
    torch.testing.assert_close(result.loss, F.cross_entropy(logits, super_class), **EXACT)
    result.loss.backward()
    assert heads.sub_weight.grad is None
    assert heads.super_weight.grad is not None


def test_a_super_class_that_is_missing_from_the_batch_costs_nothing():
    heads = make_heads(5, 4, 3)
    features = make_batch(6, 5, 1, 3)[0]
    super_class, sub_class = torch.tensor([0, 0, 1, 1, 3, 3]), torch.tensor([0, 1, 2, 0, 1, 2])
    result = joint_loss(heads, features, super_class, sub_class)
    torch.testing.assert_close(result.loss, loss_by_loop(heads, features, super_class, sub_class), **EXACT)
    result.loss.backward()
    assert heads.sub_weight.grad[2].abs().max() == 0


def test_chance_level_is_the_sum_of_two_logarithms():
    heads = make_heads(5, 4, 3)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()
    assert float(joint_loss(heads, *make_batch(12, 5, 4, 3)).loss.detach()) == pytest.approx(math.log(4) + math.log(3))


def test_negative_features_are_cut_before_the_heads():
    heads = make_heads(2, 2, 2)
    labels = torch.tensor([0, 1]), torch.tensor([1, 0])
    below = torch.tensor([[-3.0, 1.0], [2.0, -0.1]], dtype=torch.float64)
    assert torch.equal(joint_loss(heads, below, *labels).loss, joint_loss(heads, below.clamp(min=0), *labels).loss)


def test_hits_by_hand():
    heads = make_heads(2, 2, 2)
    with torch.no_grad():
        heads.super_weight.copy_(torch.eye(2))
        heads.super_bias.zero_()
        heads.sub_weight.copy_(torch.stack([torch.eye(2), torch.eye(2).flip(0)]))  # the second head answers 1 - argmax
        heads.sub_bias.zero_()
    features = torch.tensor([[2.0, 0], [0, 2.0], [2.0, 0], [0, 2.0]], dtype=torch.float64)  # argmax 0, 1, 0, 1
    super_class = torch.tensor([0, 1, 1, 0])  # right, right, wrong, wrong
    sub_class = torch.tensor([0, 0, 0, 1])  # heads 0, 1, 1, 0 answer 0, 0, 1, 1: right, right, wrong, right
    result = joint_loss(heads, features, super_class, sub_class)
    assert (int(result.super_hits), int(result.sub_hits)) == (2, 3)


def test_a_turn_is_right_whatever_the_super_cluster():
    """Super-class R * super_cluster + turn; here R = 2, and image i is taken for super-class i."""
    heads = make_heads(4, 4, 1)
    with torch.no_grad():
        heads.super_weight.copy_(torch.eye(4))
        heads.super_bias.zero_()
    features = torch.eye(4, dtype=torch.float64)
    super_class = torch.tensor([0, 3, 0, 2])  # right; turn alone, 1 of both; turn alone, 0 of both; neither
    result = joint_loss(heads, features, super_class, torch.zeros(4, dtype=torch.int64), n_turns=2)
    assert (int(result.super_hits), int(result.turn_hits)) == (1, 3)


def test_each_turn_of_a_super_cluster_has_a_head_of_its_own():
    heads = make_heads(5, 8, 3)  # two super-clusters, four turns
    assert heads.sub_weight.shape == (8, 3, 5)
    assert len({tuple(row.flatten().tolist()) for row in heads.sub_weight}) == 8


def test_reset_redraws_the_sub_heads_and_the_super_head_on_demand():
    heads = make_heads(16, 4, 3)
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    heads.reset(torch.Generator().manual_seed(9), super_head=False)
    for name, value in heads.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("super")
    heads.reset(torch.Generator().manual_seed(9), super_head=True)
    assert not torch.equal(heads.super_weight, before["super_weight"])
    for parameter in heads.parameters():
        assert parameter.abs().max() <= 1 / math.sqrt(16)  # the law of nn.Linear
        assert len(parameter.unique()) > 1


def test_heads_depend_on_the_generator_alone():
    first, second, other = make_heads(5, 4, 3), make_heads(5, 4, 3), make_heads(5, 4, 3, seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])


def test_the_gradient_of_all_sub_heads_is_made_once_and_not_once_per_head():
    s, k, d = 16, 11, 7
    heads = make_heads(d, s, k)
    with MadeTensors() as watch:
        joint_loss(heads, *make_batch(32, d, s, k)).loss.backward()
    whole = [numel for numel, _ in watch.made if numel == s * k * d]
    # one to gather the heads' gradients, one to scale them; at the paper's size each is 21 GB
    assert len(whole) <= 3


def test_scale_gradient_changes_the_gradient_and_not_the_value():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = scale_gradient(x, 3.0)
    assert torch.equal(y, x)
    (y * torch.tensor([1.0, 10.0])).sum().backward()
    assert x.grad.tolist() == [3.0, 30.0]
    assert scale_gradient(x, 1.0) is x
