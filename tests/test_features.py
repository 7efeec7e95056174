"""Features of whole sets: every image once, in order, as the network in evaluation mode sees it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_images import SIDE, TINY_MODEL, decoded_pixels, streamed_pixels, write_pictures

from dclib.data.images import ImageSet
from dclib.data.layouts import open_images
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train.features import extract_features

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_images(write_pictures(tmp_path_factory.mktemp("pictures"), 22))


@pytest.fixture
def trunk() -> Trunk:
    """With dropout and running statistics far from any batch's, so that the wrong mode cannot pass unseen."""
    trunk = Trunk(replace(TINY_MODEL, dropout=0.5), generator(3)).train()
    for module in trunk.features:
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5, generator=generator(4))
            module.running_var.uniform_(0.5, 2.0, generator=generator(5))
    return trunk


def one_by_one(trunk: Trunk, images: ImageSet) -> torch.Tensor:
    """An image at a time, cut by Pillow and normalised, convolved and batch-normalised step by step."""
    rows = []
    for image in images:
        edge = (SIDE - 32) // 2
        cut = image.crop((edge, edge, edge + 32, edge + 32))
        x = torch.tensor(np.asarray(cut), dtype=torch.float32).permute(2, 0, 1)[None] / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        grey = F.pad(x.mean(dim=1, keepdim=True), (2, 2, 2, 2))
        right = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        x = F.conv2d(grey, torch.stack([right, right.T])[:, None])
        for module in trunk.features:
            if isinstance(module, torch.nn.BatchNorm2d):
                shape = (1, -1, 1, 1)
                x = (x - module.running_mean.view(shape)) / (module.running_var.view(shape) + 1e-5).sqrt()
                x = x * module.weight.view(shape) + module.bias.view(shape)
            elif isinstance(module, torch.nn.Conv2d):
                x = F.conv2d(x, module.weight, module.bias, padding=1)
            elif isinstance(module, torch.nn.ReLU):
                x = x.clamp(min=0)
            else:
                x = F.max_pool2d(x, 2)
        hidden = (x.flatten(1) @ trunk.classifier[0].weight.T + trunk.classifier[0].bias).clamp(min=0)
        rows.append(hidden @ trunk.classifier[3].weight.T + trunk.classifier[3].bias)
    return torch.cat(rows).detach()


def test_features_are_those_of_each_image_alone_in_order(trunk, images):
    features = extract_features(trunk, decoded_pixels(images)).values
    assert (features.shape, features.dtype, features.device.type) == ((22, 16), torch.float32, "cpu")
    # 14 layers of float32 sums in another order, on features of size 0.1 to 1
    torch.testing.assert_close(features, one_by_one(trunk, images), rtol=1e-4, atol=1e-5)
    assert len({tuple(row) for row in features.round(decimals=4).tolist()}) == 22  # no two pictures are alike
    assert (features < 0).any()  # nothing is cut off: what is clustered is before the ReLU


def test_pass_changes_nothing_in_the_network(trunk, images):
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    extract_features(trunk, decoded_pixels(images))
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())
    assert all(parameter.grad is None for parameter in trunk.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_as_it_was(trunk, images, training):
    trunk.train(training)
    extract_features(trunk, decoded_pixels(images))
    assert {module.training for module in trunk.modules()} == {training}


def test_mode_is_as_it_was_after_an_error_too(trunk, images, tmp_path):
    folder = write_pictures(tmp_path, 8)
    streamed = streamed_pixels(open_images(folder))
    (folder / "disc" / "001.png").unlink()  # after it was found readable
    with pytest.raises(ValueError, match=r"001\.png"):
        extract_features(trunk, streamed)
    assert trunk.training


def test_batch_size_does_not_matter(trunk, images):
    pixels = decoded_pixels(images)
    whole = extract_features(trunk, pixels).values
    for batch_size in (1, 5, 22, 1000):
        # other batches may be summed in another order inside a convolution
        part = extract_features(trunk, pixels, batch_size=batch_size).values
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)


def test_kept_and_streamed_pixels_have_the_same_features(trunk, images):
    kept, streamed = (extract_features(trunk, p).values for p in (decoded_pixels(images), streamed_pixels(images)))
    torch.testing.assert_close(kept, streamed, rtol=0, atol=0)


def test_set_of_images_is_brought_to_the_papers_size(trunk, tmp_path):
    """Short side to 256 / 224 of the input (37 for 32), then the centre: here by Pillow on pictures of 74 x 111."""
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (74, 111, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    images = open_images(tmp_path)
    features = extract_features(trunk, images).values
    small = [image.resize((55, 37), Image.Resampling.BILINEAR).crop((11, 2, 43, 34)) for image in images]
    batch = torch.stack([torch.tensor(np.asarray(image)).permute(2, 0, 1) for image in small]).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(features, trunk.eval()(batch), rtol=1e-4, atol=1e-5)


def test_rows_keep_their_names_where_an_image_cannot_be_read(trunk, tmp_path):
    """Two of 200, which the default allows: they are told by name, and each row is that of its own image alone."""
    write_pictures(tmp_path, 200, flat=True)
    broken = open_images(tmp_path).ids[0], open_images(tmp_path).ids[150]
    for name in broken:
        (tmp_path / name).write_bytes(b"<html>404</html>")
    lines = []
    features = extract_features(trunk, open_images(tmp_path), report=lines.append)
    assert lines == [f"2 of 200 images of {tmp_path.name} cannot be read, left out: {', '.join(broken)}"]
    assert tuple(features.shape) == (198, 16) == (len(features.images), 16)
    for row in (0, 148, 197):
        alone = extract_features(trunk, features.images[row : row + 1]).values[0]
        torch.testing.assert_close(features.values[row], alone, rtol=1e-4, atol=1e-5)  # see above
    assert set(broken).isdisjoint(features.images.ids)


@pytest.mark.parametrize("kind", [decoded_pixels, streamed_pixels])
def test_random_state_of_the_caller_is_untouched(trunk, images, kind):
    pixels = kind(images)
    before = torch.get_rng_state()
    extract_features(trunk, pixels)
    assert torch.equal(torch.get_rng_state(), before)


def test_result_can_be_used_like_any_tensor(trunk, images):
    """Also where gradients are recorded: what comes out of inference mode may not."""
    features = extract_features(trunk, decoded_pixels(images)).values
    head = torch.nn.Linear(16, 2)
    head(features).sum().backward()
    assert head.weight.grad is not None
