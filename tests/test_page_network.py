"""Two networks in a page: its scripts and NumPy compute what torch does, and no file that is given stops the page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from screenshots import BROWSERS, Browser, open_browser, open_page, problems
from tiny_images import TINY_MODEL, draw_shape

from dclib.data.decoding import decode_rgb
from dclib.data.transforms import resize_and_centre, to_tensor
from dclib.explore.page_network import (
    ABOUT,
    MIDDLE,
    Layer,
    check_rounding,
    geometry,
    packed,
    shown_rows,
    space_layers,
    trunk_layers,
    write_page_network,
)
from dclib.explore.space import Space
from dclib.models.vgg import Trunk
from dclib.presets import load_preset, project_root
from dclib.press import book
from dclib.press.book import Wanted
from dclib.press.network import CLUSTERING, NAMED, PageNetworks, needs_networks, page_networks, write_scripts
from dclib.press.network_blocks import blocks

needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason=f"needs a browser: one of {', '.join(BROWSERS)}"
)
AGREED = 1e-3  # of the length of an image's features: what weights of 16 bits may move them by, and ten times too much
EXACT = 1e-5  # of the same, where both use the rounded weights: float32 sums of another order through 15 layers
# of the same, for a JPEG: a decoder that reads it small rounds its averages and spreads its colours otherwise
OF_JPEG = 0.05
N_CLUSTERS, N_POOL = 5, 40

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Made:
    """Two networks of random weights in a page, and what they were made of."""

    networks: PageNetworks
    trunks: dict[str, Trunk]
    heads: dict[str, Layer]
    space: Space
    pool: torch.Tensor
    page: Path


def random_trunk(seed: int) -> Trunk:
    """One whose batch normalisation does something, and whose maps stay of the size of 1."""
    trunk = Trunk(TINY_MODEL, torch.Generator().manual_seed(seed))
    draws = torch.Generator().manual_seed(seed + 1)
    for name, tensor in trunk.state_dict().items():
        if name.startswith("features") and tensor.ndim == 1 and tensor.is_floating_point():
            low = 0.5 if "running_var" in name or name.endswith("weight") else -0.5
            tensor.copy_(torch.rand(tensor.shape, generator=draws) + low)
    return trunk.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, site = tmp_path_factory.mktemp("networks"), tmp_path_factory.mktemp("site")
    draws = torch.Generator().manual_seed(5)
    trunks = {name: random_trunk(seed) for seed, name in enumerate(NAMED)}
    width, dim = TINY_MODEL.feature_dim, 6
    centroids = torch.randn(N_CLUSTERS, dim, generator=draws)
    centroids[3] = float("nan")  # a cluster without images
    space = Space(torch.randn(width, generator=draws), torch.randn(width, dim, generator=draws), centroids)
    pool = torch.nn.functional.normalize(torch.randn(N_POOL, dim, generator=draws))
    heads, about = {}, {}
    for name, trunk in trunks.items():
        n_super = 8 if name == CLUSTERING else 4  # two super-clusters, with four turns each
        heads[name] = Layer(
            "turns", torch.randn(n_super, width, generator=draws).double(), torch.zeros(n_super).double()
        )
        more = space_layers(space, pool) if name == CLUSTERING else []
        layers = [*trunk_layers(trunk), heads[name], *more]
        (folder / f"{name}.bin").write_bytes(b"".join(packed(layers)))
        card = {"created": "2026-01-01T", "device": "a <CPU>", "config_hash": "1", "data_hash": "2", "code_hash": "3"}
        origin = {"run": "tiny/run", "card": card, "weights_sha256": "4", "rounding": 0.0, "images": 9}
        about[name] = geometry(trunk, layers, TINY_MODEL.image_size) | origin
        assert check_rounding(trunk, layers, torch.rand(16, 3, 32, 32, generator=draws)) < AGREED
    draw_shape("disc", np.random.default_rng(0)).resize((128, 128)).save(folder / "example.jpg")
    Image.new("RGB", (25 * 48, 2 * 48), "teal").save(folder / "pool.jpg")
    names = {"names": [f"shape <{i}>" for i in range(N_POOL)], "cluster": [i % N_CLUSTERS for i in range(N_POOL)]}
    whole = {"networks": about, "clusters": [8] * N_CLUSTERS, "pool": {"across": 25, "thumb": 48, **names}}
    whole["examples"] = [{"file": "example.jpg", "name": "disc"}]
    (folder / ABOUT).write_text(json.dumps(whole))
    networks = PageNetworks(folder)
    write_scripts(networks, site)
    text = "\n".join(blocks(networks).values())
    (site / "network.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><title>t</title><main>{text}</main>")
    return Made(networks, trunks, heads, space, pool, site / "network.html")


def by_torch(made: Made, name: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and the belief in four turns of an image (3, s, s) of bytes."""
    features = made.trunks[name](torch.from_numpy(pixels[None].copy()))[0]
    head = made.heads[name]
    shares = torch.softmax(features.relu().double() @ head.weight.T + head.bias, dim=0)
    return features.numpy(), torch.stack([shares[turn::4].sum() for turn in range(4)]).numpy()


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def pictures() -> list[Image.Image]:
    """Twenty of many sizes, shapes and kinds, none of which loses anything as PNG."""
    rng = np.random.default_rng(7)
    sizes = [(128, 128), (640, 481), (33, 70), (32, 32), (7, 5), (1, 1), (3, 2000), (1300, 900), (36, 36), (257, 64)]
    kinds = ("cross", "disc", "fence", "wedge")
    found = []
    for i in range(20):
        picture = draw_shape(kinds[i % 4], rng).resize(sizes[i % 10], Image.Resampling.BICUBIC)
        noisy = np.asarray(picture) + rng.normal(0, 8, np.asarray(picture).shape)
        found.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(("RGB", "L", "P", "RGB")[i % 4]))
    return found


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def as_seen(content: bytes) -> np.ndarray:
    """What the library makes of a file, (3, 32, 32)."""
    return to_tensor(resize_and_centre(decode_rgb(content, draft=32), 32, 32)).numpy()


# without a browser


def test_numpy_sees_what_torch_does(made):
    for picture in pictures()[:6]:
        pixels = as_seen(encoded(picture))
        for name in NAMED:
            seen, (features, turns) = made.networks.see(name, pixels), by_torch(made, name, pixels)
            assert apart(seen.features, features) < AGREED
            np.testing.assert_allclose(seen.turns, turns, atol=AGREED)
            activations = list(made.trunks[name].conv_activations(torch.from_numpy(pixels[None].copy())))
            assert [one.shape for one in seen.maps] == [one[0].shape for one in activations]
        clusters, near, cosines = made.networks.place(seen_features(made, pixels))
        placed = made.space.place(torch.from_numpy(seen_features(made, pixels))[None].float())
        assert clusters[:2].tolist() == [int(placed["cluster"]), int(placed["second"])]
        assert clusters[-1] == 3  # of no images, so nowhere near
        point = made.space.points(torch.from_numpy(seen_features(made, pixels))[None].float())[0]
        np.testing.assert_allclose(cosines, made.pool @ point, atol=AGREED)
        assert near[0] == int((made.pool @ point).argmax())


def seen_features(made: Made, pixels: np.ndarray) -> np.ndarray:
    return made.networks.see(CLUSTERING, pixels).features


def test_the_middle_of_each_cluster_is_kept_and_others_once():
    draws = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(300, 4, generator=draws))
    clusters = torch.arange(300) % 7
    clusters[clusters == 5] = 6  # an empty one
    centroids = torch.stack([points[clusters == c].mean(dim=0) for c in range(7)])
    rows = shown_rows(points, centroids, clusters, 100)
    assert len(rows) == len(set(rows.tolist())) == 100
    for c in (0, 6):
        distance = (points - centroids[c]).norm(dim=1).where(clusters == c, torch.inf)
        assert set(rows[: 6 * MIDDLE].tolist()) >= set(distance.argsort()[:MIDDLE].tolist())


def test_what_cannot_be_put_into_a_page_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    preset = load_preset("smoke")
    with pytest.raises(ValueError, match="need a finished run of deepercluster, seed 0, among the runs"):
        write_page_network(preset)
    with pytest.raises(ValueError, match="need a preset of drawn images"):
        write_page_network(load_preset("cifar10"))
    assert not needs_networks(preset)
    wrong = random_trunk(0)
    with torch.no_grad():
        wrong.classifier[3].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="has training diverged"):
        check_rounding(wrong, trunk_layers(wrong), torch.rand(2, 3, 32, 32))
    other = trunk_layers(random_trunk(1))
    with pytest.raises(ValueError, match="need features that weights of 16 bits move by at most 0.001 of"):
        check_rounding(random_trunk(0), other, torch.rand(2, 3, 32, 32))


def test_the_networks_that_come_with_the_project_are_those_of_its_records():
    networks = page_networks("pocket", runs=False)
    assert networks.folder == project_root() / "results" / "pocket" / "network"
    assert sum(path.stat().st_size for path in networks.folder.glob("*.bin")) < 4e6
    for name, one in networks.about["networks"].items():
        record = project_root() / "results" / "pocket" / "records" / "pretrain" / f"{name}-s0.json"
        card = json.loads(record.read_text())["card"]
        assert {key: card[key] for key in one["card"]} == one["card"]
        assert hashlib.sha256((networks.folder / f"{name}.bin").read_bytes()).hexdigest() == one["weights_sha256"]
        assert one["rounding"] < AGREED


def test_networks_are_made_when_the_runs_are_others(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    preset = load_preset("smoke")
    records = tmp_path / "smoke" / "records" / "pretrain"
    records.mkdir(parents=True)
    for name in NAMED:
        assert not needs_networks(preset)
        (records / f"{name}-s0.json").write_text(json.dumps({"card": {"created": "now"}}))
    assert needs_networks(preset)
    assert page_networks("smoke").folder == project_root() / "results" / "pocket" / "network"
    own = tmp_path / "smoke" / "network"
    own.mkdir()
    about = {"networks": {name: {"card": {"created": "now"}} for name in NAMED}}
    (own / ABOUT).write_text(json.dumps(about))
    assert not needs_networks(preset)
    assert page_networks("smoke").folder == own


def test_a_book_has_its_own_networks_made_in_a_process_of_their_own(monkeypatch):
    called = []
    monkeypatch.setattr(book.subprocess, "run", lambda command, **options: called.append(command))
    wanted = Wanted("smoke", settings={"seeds": [1]})
    for needed in (False, True):
        monkeypatch.setattr(book, "needs_networks", lambda preset, needed=needed: needed and preset.seeds == (1,))
        book._make_networks(wanted)
    assert called == [[*book.COMMAND, "network", "--preset", "smoke", "--set=seeds=[1]"]]


# in a browser


@dataclass
class Reader:
    """The page in a browser, and what a reader does with it."""

    browser: Browser
    session: str

    def js(self, expression: str) -> Any:
        found = self.browser.call(
            "Runtime.evaluate", self.session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        end = time.monotonic() + 20
        while not self.js(f"!!({condition})"):
            assert time.monotonic() < end, f"never became true: {condition}"
            time.sleep(0.02)

    def give(self, content: bytes, name: str = "a.png", kind: str = "image/png") -> dict[str, Any]:
        """Give a file, and return what the page made of it; nothing where it was refused."""
        text = base64.b64encode(content).decode()
        return self.js(
            "(async () => { dclibNetwork.shown = null;"
            f"await dclibNetwork.give(new File([Uint8Array.from(atob('{text}'), c => c.charCodeAt(0))],"
            f" {json.dumps(name)}, {{type: {json.dumps(kind)}}}));"
            "const s = dclibNetwork.shown; return s && {pixels: [...s.pixels], found: {clusters: s.found.clusters,"
            "near: s.found.near}, seen: Object.fromEntries(Object.entries(s.seen).map(([n, v]) =>"
            "[n, v.map(one => ({features: [...one.features], turns: one.turns}))]))}})()"
        )

    def drop(self, files: str) -> str:
        """Drop files, as an expression, and return what the page says then."""
        self.js(
            f"document.getElementById('net-said').textContent = ''; (() => {{ const data = new DataTransfer();"
            f"for (const file of {files}) data.items.add(file); document.getElementById('net-drop').dispatchEvent("
            "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})) })()"
        )
        self.until("!['', 'Looking …'].includes(document.getElementById('net-said').textContent)")
        return str(self.said)

    @property
    def said(self) -> str:
        return str(self.js("document.getElementById('net-said').textContent"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def reader(made: Made, browser: Browser) -> Reader:
    """The page with its networks loaded by the button."""
    one = Reader(browser, open_page(browser, made.page.as_uri(), "desktop")[1])
    assert one.js("document.scripts.length") == 4  # no weights yet
    one.js("document.getElementById('net-load').click()")
    one.until("document.getElementById('net-said').textContent.startsWith('Loaded')")
    return one


@needs_browser
def test_twenty_images_give_the_features_of_torch_and_its_beliefs(reader, made):
    for picture in pictures():
        content = encoded(picture)
        found, expected = reader.give(content), as_seen(content)
        pixels = np.reshape(found["pixels"], (3, 32, 32)).astype(np.uint8)
        # of a tall one some versions of Pillow shrink the height first, which rounds some levels otherwise
        level = 1 if picture.height > picture.width else 0
        np.testing.assert_allclose(pixels.astype(int), expected, rtol=0, atol=level)
        for name in NAMED:
            for turn, one in enumerate(found["seen"][name]):
                turned = np.rot90(pixels, turn, (1, 2))
                features, turns = by_torch(made, name, turned)
                assert apart(np.array(one["features"]), features) < AGREED
                np.testing.assert_allclose(one["turns"], turns, atol=AGREED)
                assert apart(np.array(one["features"]), made.networks.see(name, turned).features) < EXACT
        clusters, near, _ = made.networks.place(seen_features(made, pixels))
        assert found["found"] == {"clusters": clusters.tolist(), "near": near.tolist()}


@needs_browser
def test_a_jpeg_is_seen_nearly_as_the_library_sees_it(reader, made):
    rng = np.random.default_rng(2)
    for side in (128, 200, 300):
        content = encoded(draw_shape("wedge", rng).resize((side, side), Image.Resampling.BICUBIC), "JPEG", quality=90)
        found = reader.give(content)
        features, _ = by_torch(made, CLUSTERING, as_seen(content))
        assert apart(np.array(found["seen"][CLUSTERING][0]["features"]), features) < OF_JPEG


@needs_browser
def test_whatever_is_given_has_a_sentence_in_its_place_and_the_page_goes_on(reader):
    text = "new File(['only words'], 'a.png', {type: 'image/png'})"
    assert reader.drop(f"[{text}]").startswith("That file is no picture: it begins like none of JPEG,")
    assert reader.drop("[]").startswith("Nothing came along that is a file.")
    assert reader.drop("[new File([], 'a.png')]").startswith("That file is empty.")
    svg = "new File(['<?xml version=\"1.0\"?>\\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>'], 'a.svg')"
    assert reader.drop(f"[{svg}]").startswith("That is an SVG: lines to be drawn")
    assert reader.give(encoded(Image.new("1", (10_000, 10_000)))) is None
    assert reader.said.startswith(
        "That picture has 100 million pixels (10000 × 10000), and at most 64 million are read"
    )
    assert reader.give(encoded(Image.new("RGB", (300, 200), "red"))[:200]) is None
    assert reader.said.startswith("This browser cannot read that PNG file")
    inks = encoded(draw_shape("disc", np.random.default_rng(0)).convert("CMYK"), "JPEG", quality=95)
    assert reader.give(inks)
    assert reader.said.startswith("That JPEG is made of four inks (CMYK)")
    assert reader.give(encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 0))))["pixels"] == [255] * 3 * 32 * 32
    reader.js("document.querySelector('.net-examples button').click()")
    reader.until("document.getElementById('net-said').textContent.startsWith('An example: a drawn disc. 8 passes')")
    assert not reader.js("document.querySelector('.net-refused')")


@needs_browser
def test_what_is_drawn_is_seen_when_the_pen_is_lifted_and_the_other_network_can_be_looked_into(reader):
    reader.js("document.getElementById('net-sheet').scrollIntoView()")
    box = reader.js("(({left, top}) => [left, top])(document.getElementById('net-sheet').getBoundingClientRect())")
    for kind, at in (("mousePressed", 60), ("mouseMoved", 90), ("mouseMoved", 130), ("mouseReleased", 130)):
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        reader.browser.call("Input.dispatchMouseEvent", reader.session, type=kind, x=box[0] + at, y=box[1] + at, **held)
    reader.until("document.getElementById('net-said').textContent.startsWith('Your drawing. 8 passes')")
    assert len(set(reader.js("[...dclibNetwork.shown.pixels]"))) > 2  # a line on a sheet
    before = reader.js("document.getElementById('net-maps-5').src")
    reader.js("document.querySelector('[name=net-which][value=rotnet]').click()")
    assert reader.js("document.getElementById('net-maps-5').src") != before


@needs_browser
def test_nothing_is_asked_of_a_network_and_nothing_fails(reader):
    reader.js("0")
    still = {"wide": 0, "formulas": 0, "typeset": 0, "errors": 0}
    assert problems(still, reader.browser.events) == []
    asked = [
        e["params"]["request"]["url"] for e in reader.browser.events if e.get("method") == "Network.requestWillBeSent"
    ]
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]


@needs_browser
def test_the_place_for_pictures_is_no_wider_than_a_phone(reader):
    size = {"width": 320, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    reader.browser.call("Emulation.setDeviceMetricsOverride", reader.session, **size)
    try:
        right = "getBoundingClientRect().right"
        wide = [reader.js(f"document.getElementById('{name}').{right}") for name in ("net-drop", "net-file")]
        assert max(wide) <= reader.js("document.documentElement.clientWidth")
        assert reader.js("document.getElementById('net-drop').getBoundingClientRect().width") > 200
    finally:
        reader.browser.call("Emulation.clearDeviceMetricsOverride", reader.session)


@needs_browser
def test_the_page_shows_an_example_without_scripts_and_says_what_is_missing(made, browser, tmp_path):
    alone = tmp_path / "site"
    shutil.copytree(made.page.parent, alone)
    (alone / "network" / "rotnet.js").unlink()
    one = Reader(browser, open_page(browser, (alone / "network.html").as_uri(), "phone")[1])
    one.js(
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))"
    )  # before they are loaded
    one.until("document.getElementById('net-said').textContent.startsWith('The networks could not be loaded')")
    browser.call("Emulation.setScriptExecutionDisabled", one.session, value=True)
    browser.events.clear()
    browser.call("Page.navigate", one.session, url=(alone / "network.html").as_uri())
    browser.wait_for("Page.loadEventFired")
    assert one.js("getComputedStyle(document.getElementById('net-controls')).display") == "none"
    assert one.js("[...document.images].filter(i => i.naturalWidth && i.offsetParent).length") == 3 + 4 + 13
    seen = made.networks.see(CLUSTERING, made.networks.example(0))
    told = [one.js(f"document.getElementById('net-{CLUSTERING}-0-{turn}').textContent") for turn in range(4)]
    assert told == [f"{100 * share:.0f} %" for share in seen.turns]
