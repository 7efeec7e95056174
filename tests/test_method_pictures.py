"""The pictures of the method: what they show is computed, said in words, and on the page once each."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from dclib.data.transforms import quarter_turn
from dclib.models.sobel import IMAGENET_MEAN, IMAGENET_STD, Stem
from dclib.report import method_pictures as pictures

PAGE = (Path(__file__).resolve().parent.parent / "book" / "method.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def test_each_picture_is_on_the_page_once_and_told_in_words() -> None:
    made = pictures.method_pictures()
    assert sorted(re.findall(rf":file: {pictures.PICTURES}/(\w+)\.html", PAGE)) == sorted(made)
    ids: list[str] = []
    for name, html in made.items():
        svg = ElementTree.fromstring(html).find(f"{SVG}svg")
        assert svg is not None, name
        assert svg.get("role") == "img", name
        named = str(svg.get("aria-labelledby")).split()
        told = [svg.find(f"{SVG}{tag}") for tag in ("title", "desc")]
        assert [part.get("id") for part in told if part is not None] == named, name
        assert len(str(told[1].text).split()) > 15, f"{name} is told in a sentence"  # type: ignore[union-attr]
        ids += named
        assert not re.search(r'(fill|stroke)="', html), (
            f"{name}: colours are the page's, so that it is read in the dark"
        )
    assert len(ids) == len(set(ids))


def test_the_filters_are_those_of_the_network() -> None:
    assert (IMAGENET_MEAN, IMAGENET_STD) == (pictures.MEAN, pictures.DEVIATION)
    image = np.random.default_rng(0).random((12, 10, 3))
    grey = np.pad(((image - pictures.MEAN) / pictures.DEVIATION).mean(axis=2), 2)
    ours = [pictures.correlated(grey, kernel) for kernel in (pictures.KERNEL, pictures.KERNEL.T)]
    theirs = Stem("sobel")(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0]
    # float32 sums of about ten numbers near 1
    np.testing.assert_allclose(np.stack(ours), theirs.numpy(), atol=1e-5)


def test_turns_go_the_way_of_the_training() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for q in range(4):
        turned = quarter_turn(torch.from_numpy(image).permute(2, 0, 1)[None], torch.tensor([q]))[0]
        assert np.array_equal(np.rot90(image, q), turned.permute(1, 2, 0).numpy())
    assert Image.fromarray(image).size == (2, 2)


def test_points_are_whitened_and_clustered() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 2)) @ np.array([[3.0, 1.0], [0.0, 0.3]]) + 5
    np.testing.assert_allclose(np.cov(pictures.whitened(points).T, bias=True), np.eye(2), atol=1e-12)
    blobs = np.concatenate([0.1 * rng.standard_normal((20, 2)) + centre for centre in ((4, 0), (0, 0), (2, 3))])
    assert pictures.clustered(blobs, 3).tolist() == [2] * 20 + [0] * 20 + [1] * 20  # numbered from left to right
