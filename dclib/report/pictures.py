"""Pictures of a page: contact sheets, mosaics of clusters, turns and gradients, each with a description in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from dclib.data.images import ImageSet, UnreadableImageError, name_some
from dclib.presets import edition
from dclib.report.display import Fragment, say
from dclib.report.figures import SIZE, WIDTH, new_axes
from dclib.report.series import plural
from dclib.train.absent import AbsentImagesError, AbsentSet

P = ParamSpec("P")
Pixels = NDArray[np.uint8]  # (height, width, 3)
PORTRAIT = 160  # side of an image that is looked at by itself, pixels
TILE, SMALL_TILE = 96, 64  # sides of images in a contact sheet, and in a mosaic of a cluster, pixels
STRONG = 0.25  # of the largest gradient: what counts as a strong edge
ROW_NAMES = 1.0  # inches that the names of a contact sheet's rows take
TRIES = 100  # images looked at for one that can be read


def pictured(exhibit: Callable[P, Fragment]) -> Callable[P, Fragment]:
    """Mark an exhibit of pictures: where its images are not on this machine, the sentence that says so."""

    @wraps(exhibit)
    def shown(*arguments: P.args, **options: P.kwargs) -> Fragment:
        try:
            return exhibit(*arguments, **options)
        except AbsentImagesError as error:
            return say(str(error))

    return shown


def open_to_show(images: ImageSet, index: int, *, draft: int = 0) -> Image.Image:
    """Image ``index`` for a page; a crossed-out square where it cannot be read, for no page may end for one picture.

    Nothing of a page opens an image in another way. See :func:`note_unreadable` for what is said of it.
    """
    try:
        return images.open(index, draft=draft)
    except UnreadableImageError:
        side = draft or PORTRAIT
        blank = Image.new("RGB", (side, side), "#dddddd")
        for line in ((0, 0, side, side), (0, side, side, 0)):
            ImageDraw.Draw(blank).line(line, fill="#777777", width=max(1, side // 32))
        return blank


def note_unreadable(images: ImageSet, numbers: Iterable[int]) -> str:
    """What a caption adds about the images that it shows crossed out, by name; empty where all can be read."""
    names = [images.ids[i] for i in dict.fromkeys(numbers) if not _can_be_read(images, i)]
    return f" Crossed out, for {len(names)} cannot be read: {name_some(names)}." if names else ""


def two_to_look_at(images: ImageSet | AbsentSet) -> dict[int, Image.Image]:
    """An image from the beginning of a set and one from its middle, by number; none where it is not here."""
    if isinstance(images, AbsentSet):
        return {}
    numbers = [readable_near(images, i) for i in (0, len(images) // 2)]
    return {number: open_to_show(images, number) for number in numbers}


def readable_near(images: ImageSet, index: int) -> int:
    """The number of the first image from ``index`` on that can be read; ``index`` itself where none is found."""
    candidates = ((index + i) % len(images) for i in range(min(TRIES, len(images))))
    return next((i for i in candidates if _can_be_read(images, i)), index)


def _can_be_read(images: ImageSet, index: int) -> bool:
    try:
        images.open(index, draft=PORTRAIT)
    except UnreadableImageError:
        return False
    return True


def sample_rows(images: ImageSet, *, n_rows: int, per_row: int) -> dict[str, list[int]]:
    """Numbers of images for a contact sheet: a row per class, classes evenly spread, or unnamed rows without labels."""
    rng = np.random.default_rng(0)
    if images.labels is None:
        order = rng.permutation(len(images))[: n_rows * per_row].tolist()
        return {" " * i: order[i * per_row : (i + 1) * per_row] for i in range(-(-len(order) // per_row))}
    present = np.unique(images.labels)
    shown = present[np.linspace(0, len(present) - 1, min(n_rows, len(present))).astype(int)]
    members = {images.classes[c]: np.flatnonzero(images.labels == c) for c in shown}
    return {name: rng.permutation(numbers)[:per_row].tolist() for name, numbers in members.items()}


def draw_contact_sheet(images: ImageSet, rows: Mapping[str, Sequence[int]]) -> Axes:
    """Rows of images, each cut to a square, with the row's name to its left."""
    per_row = max(map(len, rows.values()))
    tiles = [[square_tile(open_to_show(images, i, draft=TILE), TILE) for i in numbers] for numbers in rows.values()]
    room = ROW_NAMES if any(name.strip() for name in rows) else 0.0
    ax = new_axes(WIDTH, (WIDTH - room) * len(rows) / per_row)
    ax.imshow(join_tiles(tiles, TILE), aspect="equal", interpolation="nearest")
    middles = [GAP + TILE / 2 + i * (TILE + GAP) for i in range(len(rows))]
    bare(ax).set_yticks(middles, list(rows), fontsize=SIZE - 1, parse_math=False)  # names of folders, not formulas
    ax.tick_params(length=0)
    return ax


def describe_contact_sheet(images: ImageSet, rows: Mapping[str, Sequence[int]]) -> str:
    """What a contact sheet holds."""
    shown = sum(map(len, rows.values()))
    named = [name for name in rows if name.strip()]
    return f"{plural(shown, 'image')} of {len(images):,} in {images.name}" + (
        f", by row: {', '.join(named)}." if named else "."
    )


def draw_cluster_mosaics(images: ImageSet, clusters: Sequence[Mapping[str, Any]], *, columns: int = 4) -> Figure:
    """Nine images of each of some clusters, three by three, with the cluster's number and size above.

    Args:
        images: The set that was clustered.
        clusters: As saved with a run: ``{"cluster": number, "size": images, "images": [ids]}``.
    """
    n_rows = -(-len(clusters) // columns)
    figure = Figure(figsize=(WIDTH, 1.75 * n_rows), facecolor="white", layout="constrained")
    numbers = numbers_of(images, [i for cluster in clusters for i in cluster["images"]])
    panels = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax in panels[len(clusters) :]:
        ax.axis("off")
    for ax, cluster in zip(panels, clusters, strict=False):
        tiles = [square_tile(open_to_show(images, numbers[i], draft=SMALL_TILE), SMALL_TILE) for i in cluster["images"]]
        ax.imshow(join_tiles([tiles[i : i + 3] for i in range(0, len(tiles), 3)], SMALL_TILE))
        ax.set_title(f"{cluster['cluster']} ({cluster['size']:,})", fontsize=SIZE - 2)
        bare(ax)
    return figure


def note_on_mosaics(images: ImageSet, clusters: Sequence[Mapping[str, Any]]) -> str:
    """What the caption of mosaics adds, see :func:`note_unreadable`."""
    return note_unreadable(images, numbers_of(images, [i for c in clusters for i in c["images"]]).values())


def describe_cluster_mosaics(images: ImageSet, clusters: Sequence[Mapping[str, Any]]) -> str:
    """The mosaics in words: the most frequent class among each cluster's pictures, where classes are known."""
    numbers = numbers_of(images, [i for cluster in clusters for i in cluster["images"]])
    parts = []
    for cluster in clusters:
        part = f"cluster {cluster['cluster']} of {cluster['size']:,} images"
        if images.labels is not None:
            counts = np.bincount(images.labels[[numbers[i] for i in cluster["images"]]])
            part += f", {counts.max()} of {len(cluster['images'])} {images.classes[int(counts.argmax())]}"
        parts.append(part)
    return f"Mosaics of {plural(len(clusters), 'cluster')}: {'; '.join(parts)}."


def draw_rotations(image: Image.Image, *, tile: int = PORTRAIT) -> Figure:
    """An image in its four quarter turns, counter-clockwise, as the rotation task shows it."""
    pixels = square_tile(image, tile)
    figure = Figure(figsize=(WIDTH, 1.9), facecolor="white", layout="constrained")
    for turn, ax in enumerate(figure.subplots(1, 4)):
        ax.imshow(np.rot90(pixels, turn))
        ax.set_title(f"q = {turn}: {90 * turn}°", fontsize=SIZE - 1)
        bare(ax)
    return figure


def draw_sobel(image: Image.Image) -> Figure:
    """An image and its two Sobel channels, zero in grey: what the network sees in place of colour."""
    pixels = square_tile(image, PORTRAIT)
    channels = sobel_channels(pixels)
    figure = Figure(figsize=(WIDTH, 2.4), facecolor="white", layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(pixels)
    limit = max(float(np.abs(channels).max()), 1e-6)
    for ax, channel in zip(axes[1:], channels, strict=True):
        ax.imshow(channel, cmap="gray", vmin=-limit, vmax=limit)
    for ax, title in zip(axes, ("image", "horizontal gradient", "vertical gradient"), strict=True):
        ax.set_title(title, fontsize=SIZE - 1)
        bare(ax)
    return figure


def sobel_channels(pixels: Pixels) -> NDArray[np.float64]:
    """Horizontal and vertical image gradients, (2, height, width): grey is the mean of R, G and B in [0, 1].

    Cross-correlation with rows (1, 0, -1), (2, 0, -2), (1, 0, -1) and with its transpose; the border repeats the
    edge, so that the frame of a picture is no edge in it (the network pads with zeros).
    """
    grey = np.pad(pixels.mean(axis=2) / 255, 1, mode="edge")
    smooth_rows = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    smooth_columns = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    return np.stack([smooth_rows[:, :-2] - smooth_rows[:, 2:], smooth_columns[:-2] - smooth_columns[2:]])


def describe_rotations(image: Image.Image, name: str) -> str:
    """The turns in words: which image, what colour, and where its bright side is at each turn."""
    pixels = square_tile(image, PORTRAIT)
    red, green, blue = pixels.mean(axis=(0, 1)).round().astype(int)
    sides = [_bright_side(np.rot90(pixels, turn)) for turn in range(4)]
    return (
        f"Image {name}, {image.width} by {image.height} pixels, mean colour red {red}, green {green}, blue {blue}, "
        "turned by 0, 90, 180 and 270 degrees counter-clockwise; its brightest half is then at the "
        f"{', '.join(sides[:3])} and {sides[3]}."
    )


def _bright_side(pixels: Pixels) -> str:
    """The half of a square picture that is brightest."""
    grey = pixels.mean(axis=2)
    half = len(grey) // 2
    halves = {"top": grey[:half], "right": grey[:, -half:], "bottom": grey[-half:], "left": grey[:, :half]}
    return max(halves, key=lambda side: float(halves[side].mean()))


def describe_gradients(channels: NDArray[np.floating[Any]]) -> str:
    """Horizontal and vertical gradients, (2, height, width), in words: their range, and how much is a strong edge."""
    limit = STRONG * float(np.abs(channels).max())
    parts = []
    for title, channel in zip(("horizontal", "vertical"), channels, strict=True):
        share = 100 * float(np.mean(np.abs(channel) > limit))
        parts.append(
            f"{title} gradient from {channel.min():.2f} to {channel.max():.2f}, strong edges on {share:.0f} % of it"
        )
    return f"{'; '.join(parts)} (strong: above a quarter of the largest)"


GAP = 4  # white pixels between tiles


def square_tile(image: Image.Image, size: int) -> Pixels:
    """The middle square of an image as (size, size, 3)."""
    return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))


def join_tiles(rows: Sequence[Sequence[Pixels]], size: int) -> Pixels:
    """Tiles of (size, size, 3) on white, rows from the top, missing ones left white."""
    pitch = size + GAP
    width = max(map(len, rows))
    sheet = np.full((len(rows) * pitch + GAP, width * pitch + GAP, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = GAP + i * pitch, GAP + j * pitch
            sheet[top : top + size, left : left + size] = tile
    return sheet


def numbers_of(images: ImageSet, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of some images by their ids; ValueError names one that is not in the set.

    Of published pictures that is another set of the same name than they were made from: they are not shown then.
    """
    wanted = set(ids)
    numbers = {image_id: number for number, image_id in enumerate(images.ids) if image_id in wanted}
    if missing := sorted(wanted - numbers.keys()):
        said = f"{len(missing)} pictured images are not in {images.name}, first {missing[0]!r}"
        if edition() is not None:
            raise AbsentImagesError(f"The pictures that belong here are not shown: {said}.")
        raise ValueError(f"{said}; train again")
    return numbers


def bare(ax: Axes) -> Axes:
    """No frame and no ticks: a picture has no axes."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax
