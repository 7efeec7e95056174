"""The blocks of the page on which two networks run: what each shows of the first example, as HTML, and the controls.

The script of the page fills the same elements with what the reader gives it; without scripts the page stays as it is.
No torch here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from dclib.press.network import CLUSTERING, FOLDER, NAMED, Array, PageNetworks, Seen, as_data, megabytes
from dclib.records import write_atomically

ANGLES = ("upright", "a quarter turn", "half a turn", "three quarters")
SHOWN_CLUSTERS, IN_CLUSTER, NEAREST = 2, 9, 12
SHOWN_MAPS, CELL = 8, 34  # channels of a layer that are shown, and pixels of each
HASHES = (("settings", "config"), ("data", "data"), ("code", "code"))  # as a page calls them, and a card
FIRST = 0  # example that stands on the page

CONTROLS = Template("""\
<link rel="stylesheet" href="$folder/style.css">
<div class="dclib-net" id="net-controls" hidden>
<p><button type="button" id="net-load">Load the two networks ($size MB)</button></p>
<div id="net-inputs" hidden>
<div class="net-examples" role="group" aria-label="Examples">$examples</div>
<div class="net-give">
<div class="net-drop" id="net-drop">
<p><label for="net-file">Drop a picture here, or choose one:</label></p>
<p><input type="file" id="net-file" accept="image/*"></p>
<p>It stays on this machine.</p>
</div>
<div class="net-draw">
<canvas id="net-sheet" width="192" height="192" role="img" aria-label="A sheet to draw on with a pointer"></canvas>
<p><label>Colour <input type="color" id="net-colour" value="#c0392b"></label>
<label>Brush <input type="range" id="net-brush" min="4" max="48" value="16"></label>
<button type="button" id="net-clear">Empty sheet</button></p>
</div>
</div>
</div>
</div>
<p class="dclib-net" id="net-said" role="status">Computed when this book was built, of one example.</p>
""")
SCRIPTS = "".join(
    f'<script src="{FOLDER}/{name}"></script>\n' for name in ("picture.js", "layers.js", "about.js", "page.js")
)


def write_blocks(networks: PageNetworks, folder: Path) -> None:
    """Write ``network-<block>.html`` for each block of the page into a folder."""
    for name, html in blocks(networks).items():
        write_atomically(folder / f"network-{name}.html", html.encode())


def blocks(networks: PageNetworks) -> Mapping[str, str]:
    """HTML by the name of its block."""
    pixels = networks.example(FIRST)
    turned = [np.rot90(pixels, turn, (1, 2)) for turn in range(4)]
    seen = {name: [networks.see(name, one) for one in turned] for name in NAMED}
    clusters, near, cosines = networks.place(seen[CLUSTERING][0].features)
    return {
        "controls": controls(networks),
        "seen": _seen(pixels, seen[CLUSTERING][0]),
        "turns": _turns(turned, {name: [one.turns for one in ones] for name, ones in seen.items()}),
        "clusters": _clusters(networks, clusters),
        "near": _near(networks, near, cosines),
        "layers": _layers(seen[CLUSTERING][0].maps),
        "origin": _origin(networks),
    }


def controls(networks: PageNetworks) -> str:
    """What a reader gives a picture with; shown by the script."""
    examples = []
    for one in networks.about["examples"]:
        data = base64.b64encode((networks.folder / one["file"]).read_bytes()).decode("ascii")
        name = escape(one["name"])
        examples.append(
            f'<button type="button"><img src="data:image/jpeg;base64,{data}" alt="a drawn {name}"></button>'
        )
    return CONTROLS.substitute(folder=FOLDER, size=f"{megabytes(networks):.1f}", examples="".join(examples))


def derivative_picture(maps: Array, scale: float) -> NDArray[np.uint8]:
    """A derivative (s, s) in grey: none is the middle, ``scale`` is white."""
    return np.clip(np.rint(127.5 + 127.5 * maps / scale), 0, 255).astype(np.uint8)


def strip(maps: Array) -> NDArray[np.uint8]:
    """The channels of a layer (c, s, s) that are lit most, side by side; white is the brightest place of the layer."""
    chosen = np.argsort(-maps.mean(axis=(1, 2)), kind="stable")[:SHOWN_MAPS]
    places = np.arange(CELL) * maps.shape[1] // CELL
    picture = np.full((CELL, SHOWN_MAPS * (CELL + 2) - 2), 128, np.uint8)
    for number, channel in enumerate(chosen):
        left = number * (CELL + 2)
        values = maps[channel][np.ix_(places, places)] / max(float(maps.max()), 1e-12)
        picture[:, left : left + CELL] = np.rint(255 * values)
    return picture


def _seen(pixels: NDArray[np.uint8], seen: Seen) -> str:
    scale = max(float(np.abs(seen.sobel).max()), 1e-12)
    shown = {
        "picture": (pixels.transpose(1, 2, 0), f"the picture at {pixels.shape[1]} pixels"),
        "across": (derivative_picture(seen.sobel[0], scale), "from left to right"),
        "down": (derivative_picture(seen.sobel[1], scale), "from above to below"),
    }
    figures = [_figure(f"net-{name}", picture, words) for name, (picture, words) in shown.items()]
    return f'<div class="dclib-net net-row">{"".join(figures)}</div>\n'


def _turns(turned: Sequence[NDArray[np.uint8]], turns: Mapping[str, Sequence[Array]]) -> str:
    heads = "".join(f'<th scope="col">{angle}</th>' for angle in ANGLES)
    rows = []
    for turn, picture in enumerate(turned):
        for number, (name, beliefs) in enumerate(turns.items()):
            image = _image(f"net-turn-{turn}", picture.transpose(1, 2, 0), f"the picture, {ANGLES[turn]}")
            first = f'<td rowspan="{len(turns)}">{image}</td>' if not number else ""
            cells = "".join(_belief(name, turn, k, beliefs[turn][k], beliefs[turn].argmax() == k) for k in range(4))
            rows.append(f'<tr>{first}<th scope="row">{NAMED[name]}</th>{cells}</tr>')
    return (
        f'{_scrolling("Beliefs in four turns")}<table class="net-turns"><thead><tr><th scope="col">shown</th>'
        f'<th scope="col">by</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n'
    )


def _belief(name: str, turn: int, told: int, share: float, is_most: bool) -> str:
    kind = (" net-right" if told == turn else " net-wrong") if is_most else ""
    style = f'class="net-belief{kind}" style="--share:{share:.3f}"'
    return f'<td id="net-{name}-{turn}-{told}" {style}>{100 * share:.0f} %</td>'


def _clusters(networks: PageNetworks, order: NDArray[np.int64]) -> str:
    sizes, pool = networks.about["clusters"], networks.about["pool"]
    rows = []
    for place, cluster in enumerate(order[:SHOWN_CLUSTERS]):
        words = f"{('Cluster', 'Second choice: cluster')[place]} {cluster} of {len(sizes)}, {sizes[cluster]:,} images"
        members = [i for i, of in enumerate(pool["cluster"]) if of == cluster][:IN_CLUSTER]
        pictures = "".join(_thumb(networks, i) for i in members)
        rows.append(
            f'<p id="net-cluster-{place}">{words}</p><div class="net-thumbs" id="net-members-{place}">{pictures}</div>'
        )
    return f'<div class="dclib-net">{"".join(rows)}</div>\n'


def _near(networks: PageNetworks, order: NDArray[np.int64], cosines: Array) -> str:
    pictures = "".join(_thumb(networks, i, f"{cosines[i]:.2f}") for i in order[:NEAREST])
    return f'<div class="dclib-net net-thumbs" id="net-near">{pictures}</div>\n'


def _thumb(networks: PageNetworks, number: int, words: str = "") -> str:
    pool = networks.about["pool"]
    down, across = divmod(int(number), pool["across"])
    name = escape(pool["names"][number])
    style = f"--across:{pool['across']};--x:{across};--y:{down}"
    picture = f'<span class="net-thumb" role="img" aria-label="{name}" title="{name}" style="{style}"></span>'
    return f"<figure>{picture}<figcaption>{words or name}</figcaption></figure>"


def _layers(maps: Sequence[Array]) -> str:
    rows = []
    for number, one in enumerate(maps):
        channels, side, _ = one.shape
        lit = f"{100 * (one > 0).mean():.0f} %"
        image = _image(f"net-maps-{number}", strip(one), f"the {SHOWN_MAPS} brightest maps of conv{number + 1}")
        rows.append(
            f'<tr><th scope="row">conv{number + 1}</th><td>{channels} of {side} × {side}</td><td>{image}</td>'
            f'<td id="net-lit-{number}">{lit}</td></tr>'
        )
    options = "".join(
        f'<label><input type="radio" name="net-which" value="{name}"{" checked" * (name == CLUSTERING)}> '
        f"{words}</label> "
        for name, words in NAMED.items()
    )
    return (
        f'<p class="dclib-net" id="net-which" hidden>{options}</p>{_scrolling("Layers")}'
        '<table class="net-layers"><thead><tr>'
        '<th scope="col">layer</th><th scope="col">maps</th><th scope="col">the brightest</th>'
        f'<th scope="col">lit</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n{SCRIPTS}'
    )


def _origin(networks: PageNetworks) -> str:
    lines = []
    for name, one in networks.about["networks"].items():
        card = one["card"]
        hashes = ", ".join(f"{part} {card[f'{key}_hash']}" for part, key in HASHES)
        whence = f"run {escape(one['run'])}, trained on {card['created'][:10]} by {escape(card['device'])}"
        lines.append(
            f"<li>{NAMED[name]}: {whence} from {one['images']:,} drawings; {hashes}, "
            f"weights {one['weights_sha256'][:12]}; rounding moves its features by {one['rounding']:.1e} of their "
            "length.</li>"
        )
    return f'<ul class="dclib-net">{"".join(lines)}</ul>\n'


def _scrolling(words: str) -> str:
    """What a table begins in that scrolls by itself, with keys too."""
    return f'<div class="dclib-net net-wide" tabindex="0" role="region" aria-label="{words}">'


def _figure(name: str, picture: NDArray[np.uint8], words: str) -> str:
    return f"<figure>{_image(name, picture, words)}<figcaption>{words}</figcaption></figure>"


def _image(name: str, picture: NDArray[np.uint8], words: str) -> str:
    return f'<img id="{name}" src="{as_data(picture)}" alt="{escape(words)}">'
