"""Read the pages of a built book in a browser, as a reader has it, and say what is wrong with each.

    python tests/reading_pages.py SITE [--only NAME]

One Chromium opens page after page as a file, with the network off. Of each page it is measured, not read from its
source: what it loads and weighs, what the console says, whether it scrolls sideways at three widths, breaks a table's
words there or sets some in a thin face, whether the Tab key comes to all that can be pressed and shows where it is,
the contrast of its words with what lies behind them in light and dark, and what axe-core finds if it is installed
(`npm ci --prefix tests`).
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image
from screenshots import BROWSERS, QUERY, SEARCHED, Browser, open_browser, problems

HERE = Path(__file__).resolve().parent
SCRIPT = (HERE / "reading.js").read_text(encoding="utf-8")
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
NEEDED = "DCLIB_NEED_BROWSER"  # set where these tests must not be skipped
INSIDE = {
    "explorer/index.html": (
        "#view=map",
        "#view=photographs",
        "#view=duplicates",
        "#view=cluster&c=0",
        "#view=photo&p=0",
    )
}
WIDTHS = (390, 820, 1280)  # of a phone, a tablet, a desktop, in CSS pixels
HEAVIEST = 3_000_000  # bytes of all that a page loads
LEAST_CONTRAST = 4.5  # of words with what lies behind them, by WCAG 2
ROUNDING = 0.05  # of a contrast, between a colour and its rounding to 8 bits

Faults = dict[str, list[str]]  # of a page, by what was looked at


def why_not() -> str:
    """Why no page can be read here; empty where one can.

    Raises:
        RuntimeError: pages must be read here, and cannot.
    """
    lacks = "" if any(map(shutil.which, BROWSERS)) else f"needs a browser on the PATH: one of {', '.join(BROWSERS)}"
    return _demanded(lacks, "apt-get install chromium")


def why_no_axe() -> str:
    """Why axe-core cannot look at pages here; empty where it can. Raises as :func:`why_not`."""
    return why_not() or _demanded(
        "" if AXE.is_file() else "needs axe-core, which npm ci --prefix tests installs", "npm ci --prefix tests"
    )


def _demanded(lacks: str, command: str) -> str:
    if lacks and os.environ.get(NEEDED):
        raise RuntimeError(f"{NEEDED} is set, and a test {lacks}; install it with: {command}")
    return lacks


@dataclass
class Reader:
    """A tab of a browser that reads page after page.

    Contrasts that were measured on a picture of a page are remembered, for the next page has the same menus.
    """

    browser: Browser
    axe: str = ""  # its script, if it is to look too
    session: str = ""
    scheme: str = ""
    known: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        target = self.browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        off = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", **off)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Page.addScriptToEvaluateOnNewDocument", source=SCRIPT)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression[:80]}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def show(self, width: int, mode: str) -> None:
        """Make the window so wide, and the page light or dark, as the theme's own switch does."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        if mode != self.scheme:
            self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])
            self.scheme = mode
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def open(self, url: str) -> None:
        """Open a page in light and wait until all of it is there."""
        self.show(WIDTHS[-1], "light")
        self.browser.events.clear()
        for address in (*(["about:blank"] if "#" in url else []), url):  # a place in the same page would not load it
            self.browser.events.clear()
            self.call("Page.navigate", url=address)
            self.browser.wait_for("Page.loadEventFired")
        self.js("reading.ready()")

    def read(self, page: Path, site: Path, place: str = "") -> Faults:
        """Everything that is wrong with a page, or with what it shows at a place of its own, such as ``#view=map``."""
        query = f"?q={QUERY}" if page == site / "search.html" else ""
        self.open(page.resolve().as_uri() + query + place)
        found: Faults = {}
        if page == site / "search.html":
            state = {**json.loads(self.js(SEARCHED)), "wide": 0}
            found["search"] = problems(state, [])
        found["formulas"] = self.js("reading.formulas()")
        found["loads"] = list(_loaded(self.browser.events, site))
        found["keyboard"] = self._by_keyboard()
        self.js("reading.openAll()")
        found["sideways"], found["set"] = [], []
        found["contrast"], found["axe"] = [], []
        for width, mode in zip(reversed(WIDTHS), ("light", "light", "dark"), strict=True):  # a desktop first
            self.show(width, mode)
            where = f"{width} px, {mode}"
            found["sideways"] += [f"{where}: {line}" for line in self.js("reading.sideways()")]
            found["set"] += [f"{where}: {line}" for line in self.js("reading.set()")]
            if width == WIDTHS[1]:
                continue
            found["contrast"] += [f"{where}: {line}" for line in self._contrasts(mode)]
            if self.axe:
                if mode == "light":
                    self.js(f"{self.axe}; 0")
                rules = "" if mode == "light" else '["color-contrast", "link-in-text-block"]'
                found["axe"] += [f"{where}: {line}" for line in self.js(f"reading.accessible({rules})")]
        found["console"] = problems({"wide": 0, "formulas": 0, "typeset": 0, "errors": 0}, self.browser.events)
        return found

    def _by_keyboard(self) -> list[str]:
        """Press Tab once for each thing that can be pressed, and a few times more."""
        stops = self.js("reading.tabbing()")
        key = {"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        for _ in range(stops + 11):
            self.browser.send("Input.dispatchKeyEvent", self.session, **key)
        self.browser.call("Input.dispatchKeyEvent", self.session, **key)  # answered when the page has had all of them
        found = self.js("(async () => { await new Promise(requestAnimationFrame); return reading.tabbed(); })()")
        return [*found, *self.js("reading.mouseOnly()"), *self.js("reading.labels()")]

    def _contrasts(self, mode: str) -> list[str]:
        """Words that are hard to read: by their styles, and where they stand on a picture, by what is seen there."""
        words = self.js("reading.words()")
        if not words["looked"]:
            return ["no words were found"]
        found = list(words["low"])
        new = [w for w in words["onPictures"] if not w["same"] or self._key(w, mode) not in self.known]
        if new:
            self.js("reading.bare(true)")
        pictures = {box: self._picture(box) for box in {tuple(word["picture"]) for word in new}}
        for word in new:
            x, y = (round(word["box"][i] - word["picture"][i]) for i in (0, 1))
            width, height = (max(1, round(side)) for side in word["box"][2:])
            pixels = pictures[tuple(word["picture"])][max(y, 0) : max(y, 0) + height, max(x, 0) : max(x, 0) + width]
            value = _contrast(word["colour"], word["share"], pixels.reshape(-1, 3)) if pixels.size else LEAST_CONTRAST
            self.known[self._key(word, mode)] = value
            if value < LEAST_CONTRAST - ROUNDING:
                found.append(f"contrast {value:.2f} with what is seen behind it: {word['name']}")
        if new:
            self.js("reading.bare(false)")
        return found

    @staticmethod
    def _key(word: dict[str, Any], mode: str) -> str:
        return f"{mode};{word['same']};{word['colour']}"

    def _picture(self, box: tuple[float, ...]) -> np.ndarray:
        """(height, width, 3) what the page shows in a box, at most 4,000 pixels of its height."""
        clip = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
        clip["height"] = min(clip["height"], 4000)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), float)


def _contrast(colour: Sequence[float], share: float, pixels: np.ndarray) -> float:
    """The contrast of a word's colour with what the page shows in its place without words.

    The least of any pixel but the hundredth that is least: a rule or an edge may pass below a letter's end.
    """
    *rgb, alpha = colour
    alpha *= share
    own = alpha * np.array(rgb) + (1 - alpha) * pixels
    dark, light = np.sort([_luminance(own), _luminance(pixels)], axis=0)
    return float(np.quantile((light + 0.05) / (dark + 0.05), 0.01))


def _luminance(rgb: np.ndarray) -> np.ndarray:
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _loaded(events: Sequence[dict[str, Any]], site: Path) -> Iterator[str]:
    """What a page asks for outside the book's folder, and whether all that it loads is too heavy."""
    urls = [e["params"]["request"]["url"] for e in events if e.get("method") == "Network.requestWillBeSent"]
    files: dict[Path, int] = {}
    for url in urls:
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.scheme == "file" and path.is_relative_to(site.resolve()):
            files[path] = path.stat().st_size if path.is_file() else 0
        elif parts.scheme not in ("data", "blob", "about"):
            yield f"asks for {url[:120]}, which is not in the book's folder"
    if (weight := sum(files.values())) > HEAVIEST:
        largest = sorted(files, key=lambda path: -files[path])[:4]
        parts_said = ", ".join(f"{path.name} {files[path] / 1e6:.2f}" for path in largest)
        yield f"weighs {weight / 1e6:.2f} MB with all that it loads, more than {HEAVIEST / 1e6:g} MB: {parts_said}"


def pages_of(site: Path) -> list[Path]:
    """The pages of a site, without what the theme keeps for itself."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]


def read_site(site: Path, pages: Sequence[Path], *, say: Any = None) -> dict[str, Faults]:
    """What is wrong with some pages of a site, by their names."""
    axe = AXE.read_text(encoding="utf-8") if AXE.is_file() else ""
    found = {}
    with open_browser() as browser:
        reader = Reader(browser, axe)
        for page in pages:
            name = page.relative_to(site).as_posix()
            for place in ("", *INSIDE.get(name, ())):
                began = time.monotonic()
                found[name + place] = reader.read(page, site, place)
                if say:
                    say(name + place, found[name + place], time.monotonic() - began)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Read the pages of a built book in a browser.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--only", default="", help="pages whose name contains this")
    options = parser.parse_args(arguments)
    if lacks := why_not():
        raise SystemExit(lacks)
    pages = [page for page in pages_of(options.site) if options.only in page.relative_to(options.site).as_posix()]

    def say(name: str, faults: Faults, seconds: float) -> None:
        print(f"{name} ({seconds:.1f} s)")
        print("".join(f"  {kind}: {line}\n" for kind, lines in faults.items() for line in lines), end="", flush=True)

    found = read_site(options.site, pages, say=say)
    n = sum(len(lines) for faults in found.values() for lines in faults.values())
    print(f"{len(found)} pages, {n} faults{'' if AXE.is_file() else '; ' + why_no_axe()}")
    return 1 if n else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
