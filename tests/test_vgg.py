"""The trunk: geometry of the released network, its key layout, initial law, and the features it hands on."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dclib.config import ModelConfig
from dclib.models.vgg import Trunk, scaled_channels

# where the released weight files keep the layers of ``features``
CONVOLUTIONS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
POOLS = (6, 13, 23, 33, 43)
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
SIDES = (226, 226, 113, 113, 56, 56, 56, 28, 28, 28, 14, 14, 14)  # at 224 pixels


def make_trunk(seed: int = 0, **changes) -> Trunk:
    config = ModelConfig(**{"width": 1 / 32, "hidden_dim": 8, "feature_dim": 6, "image_size": 64, **changes})
    return Trunk(config, torch.Generator().manual_seed(seed))


def random_images(size: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stem", ["sobel", "rgb"])
def test_maps_at_224_pixels_are_those_of_the_released_network(stem):
    trunk = make_trunk(image_size=224, stem=stem).eval()
    with torch.no_grad():
        activations = list(trunk.conv_activations(random_images(224)))
        last = trunk.features(trunk.stem(random_images(224)))
    assert tuple(a.shape[-1] for a in activations) == SIDES
    assert tuple(a.shape[-2] for a in activations) == SIDES
    assert tuple(a.shape[1] for a in activations) == tuple(c // 32 for c in CHANNELS)
    assert last.shape == (2, 16, 7, 7)
    assert all(a.min() >= 0 for a in activations)


def test_key_names_and_shapes_are_those_of_the_released_files():
    expected = {}
    in_channels = 2
    for index, channels in zip(CONVOLUTIONS, CHANNELS, strict=True):
        expected[f"features.{index}.weight"] = (channels, in_channels, 3, 3)
        expected[f"features.{index}.bias"] = (channels,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            expected[f"features.{index + 1}.{name}"] = (channels,)
        expected[f"features.{index + 1}.num_batches_tracked"] = ()
        in_channels = channels
    expected |= {"classifier.0.weight": (4096, 25088), "classifier.0.bias": (4096,)}
    expected |= {"classifier.3.weight": (4096, 4096), "classifier.3.bias": (4096,)}
    with torch.device("meta"):  # the real size, without its 600 MB
        trunk = Trunk(ModelConfig(), torch.Generator())
    assert {name: tuple(value.shape) for name, value in trunk.state_dict().items()} == expected


def test_poolings_and_relus_stand_where_the_released_files_imply():
    features = make_trunk().features
    assert len(features) == 44
    for index, module in enumerate(features):
        kind = nn.MaxPool2d if index in POOLS else nn.Conv2d if index in CONVOLUTIONS else None
        if kind is None:
            kind = nn.BatchNorm2d if index - 1 in CONVOLUTIONS else nn.ReLU
        assert isinstance(module, kind), index
    first = next(iter(features))
    assert (first.stride, first.padding, first.bias is not None) == ((1, 1), (1, 1), True)


def test_forward_is_the_plain_chain_of_its_layers():
    trunk = make_trunk(image_size=37, stem="rgb").double().eval()
    draws = torch.Generator().manual_seed(2)
    weights = trunk.state_dict()
    for name, value in weights.items():
        if name.endswith("running_mean"):
            value.copy_(0.1 * torch.randn(value.shape, generator=draws))
        elif name.endswith("running_var"):
            value.copy_(0.1 + torch.rand(value.shape, generator=draws))
    images = random_images(37).double()
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)
    x, relus = F.pad((images - mean) / std, (1, 1, 1, 1)), []
    for i in CONVOLUTIONS:
        x = F.conv2d(x, weights[f"features.{i}.weight"], weights[f"features.{i}.bias"], padding=1)
        centred = x - weights[f"features.{i + 1}.running_mean"].view(1, -1, 1, 1)
        x = centred / (weights[f"features.{i + 1}.running_var"].view(1, -1, 1, 1) + 1e-5).sqrt()  # PyTorch's epsilon
        x = x.clamp(min=0)
        relus.append(x)
        if i + 3 in POOLS:
            x = F.max_pool2d(x, 2)
    hidden = (x.flatten(1) @ weights["classifier.0.weight"].T + weights["classifier.0.bias"]).clamp(min=0)
    expected = hidden @ weights["classifier.3.weight"].T + weights["classifier.3.bias"]
    # float64 through 15 layers; the stem keeps its constants in float32, 1e-7 of a colour
    with torch.no_grad():
        torch.testing.assert_close(trunk(images), expected, rtol=1e-5, atol=1e-6)
        for actual, wanted in zip(trunk.conv_activations(images), relus, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)


def test_features_come_before_any_non_linearity():
    features = make_trunk(feature_dim=64).eval()(random_images(64, 4))
    assert features.shape == (4, 64)
    assert (features < 0).any()
    assert (features > 0).any()


def test_convolutions_start_with_variance_two_over_fan_out_and_no_bias():
    trunk = make_trunk(width=0.25, image_size=32)
    for index in CONVOLUTIONS:
        layer = trunk.features[index]
        expected = math.sqrt(2 / (9 * layer.out_channels))
        weight = layer.weight.detach()
        n = weight.numel()
        # the standard deviation of n normal draws scatters by 1 / sqrt(2 n) of itself, their mean by 1 / sqrt(n)
        assert float(weight.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * n))
        assert abs(float(weight.mean())) < 5 * expected / math.sqrt(n)
        assert layer.bias.abs().max() == 0


def test_linear_layers_start_with_the_uniform_law_of_pytorch():
    trunk = make_trunk(hidden_dim=400, feature_dim=300)
    for layer in (trunk.classifier[0], trunk.classifier[3]):
        bound = 1 / math.sqrt(layer.in_features)
        for values in (layer.weight.detach(), layer.bias.detach()):
            assert values.abs().max() <= bound
            # 300 draws or more: their standard deviation scatters by less than 3 % of itself
            assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.12)


def test_weights_depend_on_the_generator_alone():
    first = make_trunk().state_dict()
    torch.rand(7)  # what the global generator has done must not matter
    second, other = make_trunk().state_dict(), make_trunk(seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])
    assert not torch.equal(first["classifier.3.bias"], other["classifier.3.bias"])


def test_there_is_one_dropout_with_the_configured_probability():
    trunk = make_trunk(dropout=0.3)
    assert [m.p for m in trunk.modules() if isinstance(m, nn.Dropout)] == [0.3]
    trunk.eval()
    images = random_images(64)
    with torch.no_grad():
        assert torch.equal(trunk(images), trunk(images))


@pytest.mark.parametrize("size", [30, 32, 37, 63, 64])
def test_every_allowed_size_leaves_a_pixel_after_five_poolings(size):
    with torch.no_grad():
        assert make_trunk(image_size=size).eval()(random_images(size)).shape == (2, 6)


@pytest.mark.parametrize("size", [28, 29])
def test_a_size_that_leaves_no_pixel_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size .* got {size}"):
        ModelConfig(image_size=size)


def test_narrow_networks_keep_a_channel():
    assert [scaled_channels(64, width) for width in (1.0, 0.25, 1 / 32, 1e-6)] == [64, 16, 2, 1]
