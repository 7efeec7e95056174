"""The pictures of the page on the method, as SVG in the page's own colours: computed, with what they show in words.

Points are clustered, images drawn and filtered, by a few lines of NumPy each, so that a picture cannot say what the
method does not do. No torch here, for the book builds without.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.pocket.pictures import draw_object
from dclib.pocket.seeds import stream
from dclib.records import write_atomically

PICTURES = "_generated/method"  # below book/, from where the page takes them
Points = NDArray[np.float64]
WIDTH = 720  # of every picture, in units of the drawing
TILE = 132
MARKS = ("disc", "square", "triangle")  # of sub-classes
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
KERNEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=float)  # G_x; G_y is its transpose
N_SUPER, N_TURNS, N_SUB = 2, 4, 3  # of the pictures


def method_pictures() -> Mapping[str, str]:
    """Name -> HTML of every picture of the page."""
    made: Sequence[Callable[[], str]] = (sobel, whitening, two_levels, turns, batch, loss, alternation)
    return {make.__name__: make() for make in made}


def write_method_pictures(folder: Path) -> None:
    """Put them where the page looks for them, ``<name>.html`` each."""
    for name, picture in method_pictures().items():
        write_atomically(folder / f"{name}.html", picture.encode())


def sobel() -> str:
    """An image, its grey, and its two derivatives."""
    picture = np.asarray(_drawn("umbrella", 224), dtype=float) / 255
    grey = ((picture - MEAN) / DEVIATION).mean(axis=2)
    across, down = (correlated(np.pad(grey, 2), kernel) for kernel in (KERNEL, KERNEL.T))
    limit = max(np.abs(across).max(), np.abs(down).max()) / 2
    tiles = [
        (_uri((255 * picture).astype(np.uint8)), "image", f"{len(picture)} pixels"),
        (_uri(_levels(grey, np.abs(grey).max())), "grey", f"padded to {len(grey) + 4}"),
        (_uri(_levels(across, limit)), f"Gx, {len(across)} pixels", "left less right"),
        (_uri(_levels(down, limit)), f"Gy, {len(down)} pixels", "top less bottom"),
    ]
    step = (WIDTH - TILE) / 3
    parts = [
        _image(uri, i * step, 0) + _words(i * step + TILE / 2, TILE, name, small)
        for i, (uri, name, small) in enumerate(tiles)
    ]
    parts += [_arrow(TILE + 6, TILE / 2, step - 6, TILE / 2), _arrow(step + TILE + 6, TILE / 2, 2 * step - 6, TILE / 2)]
    flat = float(np.mean(np.hypot(across, down) < 0.1 * np.hypot(across, down).max()))
    told = (
        "A drawn umbrella on a tinted ground; the same in grey; and its derivatives from left to right and from top to "
        f"bottom, in which outlines stay and colour and flat ground are gone: {flat:.0%} of the points are near zero."
    )
    return _figure("sobel", "What the Sobel filter leaves", told, TILE + 44, parts)


def correlated(image: Points, kernel: Points) -> Points:
    """(h, w) with a 3x3 kernel, where all of it lies inside: (h - 2, w - 2)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    found: Points = np.einsum("hwij,ij->hw", windows, kernel)
    return found


def whitening() -> str:
    """Points before whitening, after it, and on the unit circle."""
    rng = np.random.default_rng(1)
    spread = rng.standard_normal((60, 2)) * (3.0, 0.6)
    angle = np.radians(35)
    points = spread @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    white = whitened(points)
    unit = white / np.linalg.norm(white, axis=1, keepdims=True)
    panels = [(points, 7.0, "features"), (white, 3.2, "whitened"), (unit, 1.5, "unit length")]
    step = WIDTH / 3
    parts = []
    for i, (of, reach, name) in enumerate(panels):
        x, y = (i + 0.5) * step, TILE / 2 + 4
        parts.append(f'<path class="dd-thin" d="M{x - 70:.0f} {y:.0f}h140M{x:.0f} {y - 66:.0f}v132"/>')
        parts += [_mark("disc", x + 66 * px / reach, y - 66 * py / reach, "dd-cool", 2.6) for px, py in of]
        parts.append(_words(x, TILE + 8, name))
        parts += [_arrow(x + 88, y, x + step - 88, y)] if i < 2 else []
    told = (
        "A long tilted cloud of points; the same cloud moved, turned and stretched until it is round; the same "
        "points on "
        f"a circle. At first one direction has {np.ptp(spread[:, 0]) / np.ptp(spread[:, 1]):.0f} times the extent of "
        "the "
        "other."
    )
    return _figure("whitening", "Whitening, and unit length", told, TILE + 30, parts)


def whitened(points: Points) -> Points:
    """Points (n, d) with mean 0 and the identity for a covariance."""
    centred = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centred.T, bias=True))
    result: Points = centred @ vectors / np.sqrt(values)
    return result


def two_levels() -> str:
    """Points in super-clusters, by colour, and in the sub-classes of each, by form."""
    rng = np.random.default_rng(4)
    centres = np.array([[1, 1], [1.9, 2.3], [0.8, 3.1], [5.2, 1.2], [6.3, 2.4], [4.9, 3.2]])
    points = np.concatenate([centre + 0.33 * rng.standard_normal((11, 2)) for centre in centres])
    upper = clustered(points, N_SUPER)
    lower = np.zeros(len(points), dtype=np.int64)
    for c in range(N_SUPER):
        lower[upper == c] = clustered(points[upper == c], N_SUB)
    scale, shift = np.array([88.0, 52.0]), np.array([40.0, -10.0])
    places = points * scale + shift
    parts = [
        _mark(MARKS[z], x, y, ("dd-warm", "dd-cool")[c], 5) for (x, y), c, z in zip(places, upper, lower, strict=True)
    ]
    for c in range(N_SUPER):
        for z in range(N_SUB):
            x, y = places[(upper == c) & (lower == z)].mean(axis=0)
            parts.append(f'<rect class="dd-ground" x="{x - 32:.0f}" y="{y - 14:.0f}" width="64" height="28" rx="6"/>')
            parts.append(f'<text class="dd-name" x="{x:.0f}" y="{y + 6:.0f}">({c}, {z})</text>')
    sizes = [int((upper == c).sum()) for c in range(N_SUPER)]
    told = (
        f"{len(points)} points. A first k-means splits them into two super-clusters of {sizes[0]} and {sizes[1]} "
        "points, "
        f"told by colour; a second one splits each into {N_SUB} sub-classes, told by form. Each group bears its pair "
        "(c, z)."
    )
    return _figure("two-levels", "Two levels of k-means", told, 200, parts)


def clustered(points: Points, k: int) -> NDArray[np.int64]:
    """k-means from points far apart, to its end: the cluster of each, numbered from left to right."""
    chosen = [int(points[:, 0].argmin())]
    while len(chosen) < k:
        apart = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    centroids, nearest = points[chosen], np.full(len(points), -1)
    while True:
        now = np.linalg.norm(points[:, None] - centroids, axis=2).argmin(axis=1)
        if (now == nearest).all():
            order = centroids[:, 0].argsort().argsort()
            return np.asarray(order[now], dtype=np.int64)
        nearest = now
        centroids = np.stack([points[nearest == c].mean(axis=0) for c in range(k)])


def turns() -> str:
    """An image of each super-cluster in four turns, with the number of its super-class."""
    step, parts = (WIDTH - 90) / N_TURNS, []
    for c, name in enumerate(("lamp", "bird")):
        picture = np.asarray(_drawn(name, 96))
        y = c * (TILE + 44) + 24
        parts.append(_words(40, y + TILE / 2 - 22, f"c = {c}"))
        for q in range(N_TURNS):
            x = 90 + q * step
            parts.append(
                _image(_uri(np.rot90(picture, q)), x, y) + _words(x + TILE / 2, y + TILE + 6, f"y = {N_TURNS * c + q}")
            )
    parts += [_words(90 + q * step + TILE / 2, -2, f"q = {q}") for q in range(N_TURNS)]
    told = (
        "A lamp, of super-cluster 0, and a bird, of super-cluster 1, upright and after one, two and three quarter "
        f"turns counter-clockwise. The super-classes are 0 to {N_TURNS - 1} for the lamp and {N_TURNS} to "
        f"{N_SUPER * N_TURNS - 1} for the bird."
    )
    return _figure("turns", "Super-cluster and turn make the super-class", told, 2 * (TILE + 44) + 24, parts)


def batch() -> str:
    """Clusters of different sizes, and how often each is shown."""
    sizes = (12, 6, 2)
    share = sum(sizes) // (2 * len(sizes)) + 1
    parts = [_words(170, 0, "one super-class in the pool"), _words(540, 0, "its share of a batch")]
    for z, size in enumerate(sizes):
        y = 38 + 34 * z
        parts += [_mark(MARKS[z], 40 + 22 * i, y, "dd-cool", 6) for i in range(size)]
        parts += [_mark(MARKS[z], 480 + 30 * i, y, "dd-warm", 6) for i in range(share)]
        parts.append(_arrow(330, y, 440, y))
    told = (
        f"Three clusters of {sizes[0]}, {sizes[1]} and {sizes[2]} images in the pool; {share} images of each in the "
        "batch. "
        f"An image of the smallest is shown {sizes[0] / sizes[2]:.0f} times as often as one of the largest."
    )
    return _figure("batch", "Every cluster equally often", told, 130, parts)


def loss() -> str:
    """The two heads of an image of super-class 5: all super-classes, and the sub-classes of the true one alone."""
    n_classes, y, z, k = N_SUPER * N_TURNS, 5, 2, 6
    parts = [_box(0, 62, 110, 52, "trunk"), _box(150, 62, 110, 52, "f⁺"), _arrow(112, 88, 148, 88)]
    parts += [_arrow(262, 80, 318, 34), _arrow(262, 96, 318, 130)]
    parts.append(_row(8, f"V: one of S = {n_classes} super-classes", x=330))
    parts += [_cell(330 + 26 * i, 22, i == y, str(i)) for i in range(n_classes)]
    parts.append(_row(74, f"W: one of k = {k} sub-classes", x=330))
    for s in range(n_classes):
        parts += [_cell(330 + 26 * i, 90 + 13 * s, s == y and i == z, "", on=s == y, height=11) for i in range(k)]
    parts.append(
        f'<text class="dd-small" x="{342 + 26 * k}" y="{99 + 13 * y}" text-anchor="start">y, the true one</text>'
    )
    told = (
        f"The feature of an image goes, through a ReLU, to two heads. V scores all {n_classes} super-classes, of "
        f"which {y} is "
        f"the true one. Of the {n_classes} sub-class heads only that of super-class {y} is asked, and scores {k} "
        "sub-classes. "
        f"{n_classes + k} classes are scored in place of {n_classes * k}."
    )
    return _figure("loss", "The joint loss of one image", told, 205, parts)


def alternation() -> str:
    """Epochs from left to right: what goes on, and what starts anew at each clustering."""
    epochs, every = 9, 3
    step, left = (WIDTH - 185) / epochs, 180
    begins = range(0, epochs, every)
    parts = [
        f'<rect class="dd-core" x="{left}" y="34" width="{epochs * step:.0f}" height="24" rx="4"/>',
        _row(46, "trunk"),
    ]
    for y, name in ((88, "super-class head"), (130, "sub-class heads")):
        parts.append(_row(y, name))
        size = f'width="{every * step - 8:.0f}" height="24" rx="4"'
        parts += [f'<rect class="dd-label" x="{left + e * step + 4:.0f}" y="{y - 12}" {size}/>' for e in begins]
    for e in begins:
        parts.append(f'<path class="dd-line dd-dashed" d="M{left + e * step:.0f} 20V150"/>')
        parts.append(
            f'<text x="{left + e * step:.0f}" y="12" text-anchor="{"start" if not e else "middle"}">clustering</text>'
        )
    parts += [f'<text class="dd-small" x="{left + (e + 0.5) * step:.0f}" y="168">{e + 1}</text>' for e in range(epochs)]
    parts.append(_row(163, "epoch"))
    told = (
        f"{epochs} epochs. The trunk is one bar from the first to the last. At each of {len(begins)} clusterings, "
        "every "
        f"{every} epochs, the super-class head and the sub-class heads begin anew."
    )
    return _figure("alternation", "Cluster, learn, cluster again", told, 174, parts)


def _drawn(name: str, side: int) -> Image.Image:
    return draw_object(name, stream(3, f"method/{name}"), side)


def _levels(values: Points, limit: float) -> NDArray[np.uint8]:
    """Values around zero as greys around the middle."""
    return np.clip(127.5 + 127.5 * values / limit, 0, 255).astype(np.uint8)


def _uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    image.thumbnail((2 * TILE, 2 * TILE))
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _image(uri: str, x: float, y: float) -> str:
    return f'<image href="{uri}" x="{x:.0f}" y="{y:.0f}" width="{TILE}" height="{TILE}"/>'


def _words(x: float, y: float, name: str, small: str = "") -> str:
    """A line of words below a place, and a smaller one below that."""
    below = f'<text class="dd-small" x="{x:.0f}" y="{y + 36:.0f}">{escape(small)}</text>' if small else ""
    return f'<text x="{x:.0f}" y="{y + 18:.0f}">{escape(name)}</text>{below}'


def _row(y: float, name: str, *, x: float = 0) -> str:
    return f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="start">{escape(name)}</text>'


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    length = float(np.hypot(x1 - x0, y1 - y0)) or 1.0
    dx, dy = 7 * (x1 - x0) / length, 7 * (y1 - y0) / length
    corners = [(x1, y1), (x1 - dx - dy / 2, y1 - dy + dx / 2), (x1 - dx + dy / 2, y1 - dy - dx / 2)]
    head = f"M{'L'.join(f'{x:.1f} {y:.1f}' for x, y in corners)}z"
    return (
        f'<path class="dd-line" d="M{x0:.1f} {y0:.1f}L{x1 - dx:.1f} {y1 - dy:.1f}"/><path class="dd-head" d="{head}"/>'
    )


def _box(x: float, y: float, width: float, height: float, name: str) -> str:
    rect = f'<rect class="dd-core" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
    return f'{rect}<text x="{x + width / 2}" y="{y + height / 2 + 5}">{escape(name)}</text>'


def _cell(x: float, y: float, chosen: bool, name: str, *, on: bool = True, height: float = 22) -> str:
    """One class of a head: chosen, asked, or not asked."""
    kind = "dd-warm" if chosen else "dd-label" if on else "dd-off"
    text = (
        f'<text class="dd-small dd-{"on" if chosen else "name"}" x="{x + 12}" y="{y + height - 7}">{name}</text>'
        if name
        else ""
    )
    return f'<rect class="{kind}" x="{x}" y="{y}" width="24" height="{height}" rx="2"/>{text}'


def _mark(form: str, x: float, y: float, kind: str, r: float) -> str:
    if form == "disc":
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    if form == "square":
        return f'<rect class="{kind}" x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"/>'
    return f'<path class="{kind}" d="M{x:.1f} {y - r:.1f}l{1.1 * r:.1f} {2 * r:.1f}h{-2.2 * r:.1f}z"/>'


def _figure(name: str, title: str, told: str, height: float, parts: Sequence[str] | Iterator[str]) -> str:
    """The picture with its title below, and all of it in words for who cannot see it."""
    ids = f"dd-{name}-title dd-{name}-told"
    return (
        f'<figure class="dclib-diagram"><svg viewBox="-2 -4 {WIDTH + 4} {height + 8:.0f}" role="img" '
        f'aria-labelledby="{ids}" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="dd-{name}-title">{escape(title)}</title>'
        f'<desc id="dd-{name}-told">{escape(told)}</desc>{"".join(parts)}</svg>'
        f"<figcaption>{escape(title)}.</figcaption></figure>\n"
    )
