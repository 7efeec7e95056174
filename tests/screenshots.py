"""Photograph every page of the built book: desktop, phone and dark mode.

    python tests/screenshots.py [SITE] [OUT] [--only NAME]

SITE is _build/html and OUT is _build/screenshots unless given. Needs a Chromium or Chrome; speaks to it over a pipe,
so nothing has to be installed for it. Pages are opened as files, by a browser as a reader has it, with the network
off. Besides the pictures, it prints what no picture shows well: a page that scrolls sideways, a file that could not be
loaded, an attempt to reach the network, a formula that was not typeset, an error in the console, a search whose
results show nothing of their pages. The exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dclib.press.print_formulas import BROWSERS

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
VIEWS = {  # name: width in CSS pixels, pixels per CSS pixel, colour scheme
    "desktop": (1280, 1, "light"),
    "phone": (390, 2, "light"),
    "dark": (1280, 1, "dark"),
    "phone-dark": (390, 2, "dark"),
}
MAX_HEIGHT = 12_000  # CSS pixels; a longer page is cut there
TYPESET = """(async () => {
  await document.fonts.ready;
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map(i => i.decode().catch(() => {})));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const formulas = document.querySelectorAll('.math').length;
  const typeset = document.querySelectorAll('.math math').length;
  return JSON.stringify({wide, formulas, typeset, errors: document.querySelectorAll('merror').length,
                         height: document.documentElement.scrollHeight});
})()"""


SEARCHED = """(async () => {
  const ready = () => document.querySelector('#search-results .search-summary')?.innerText.match(/found|match/);
  for (let i = 0; i < 100 && !ready(); i++) await new Promise(r => setTimeout(r, 100));
  await new Promise(r => setTimeout(r, 200));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return JSON.stringify({wide, formulas: 0, typeset: 0, errors: 0, height: document.documentElement.scrollHeight,
                         results: document.querySelectorAll('#search-results ul.search li').length,
                         excerpts: document.querySelectorAll('#search-results li p.context').length});
})()"""
QUERY = "whitening"  # a word of several pages


@dataclass
class Browser:
    """A Chromium that takes commands over two pipes, one JSON message at a time, each closed by a zero byte."""

    to_browser: int
    from_browser: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _last_id: int = 0
    _unread: bytes = b""

    def call(self, method: str, session: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what the browser reports meanwhile goes to ``events``."""
        self.send(method, session, **parameters)
        while True:
            answer = self._read()
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self.events.append(answer)

    def send(self, method: str, session: str | None = None, /, **parameters: Any) -> None:
        """Send a command without waiting: its answer goes to ``events``, before that of the next ``call``."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self.to_browser, left) :]

    def wait_for(self, event: str) -> None:
        """Read until the browser reports ``event``."""
        while not any(e.get("method") == event for e in self.events):
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            block = os.read(self.from_browser, 2**16)
            if not block:
                raise RuntimeError("the browser ended before it answered")
            self._unread += block
        message, self._unread = self._unread.split(b"\0", 1)
        return dict(json.loads(message))


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a headless browser with an empty profile, and end it."""
    program = next((p for name in BROWSERS if (p := shutil.which(name))), None)
    if program is None:
        raise SystemExit(f"need a browser to take pictures: none of {', '.join(BROWSERS)} is on the PATH")
    command_out, command_in = os.pipe()
    report_out, report_in = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        silent = os.open(os.devnull, os.O_WRONLY)
        # the browser reads commands from descriptor 3 and reports on descriptor 4
        pid = os.posix_spawn(
            program,
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, silent, 2),
                (os.POSIX_SPAWN_DUP2, command_out, 3),
                (os.POSIX_SPAWN_DUP2, report_in, 4),
            ],
        )
        for descriptor in (silent, command_out, report_in):
            os.close(descriptor)
        try:
            yield Browser(command_in, report_out)
        finally:
            os.close(command_in)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            os.close(report_out)


def open_page(browser: Browser, url: str, view: str) -> tuple[str, str]:
    """Open a page with the network off, as one of VIEWS sees it, and wait until it is loaded.

    Returns its target, to be closed, and its session, to be spoken to; ``browser.events`` are those since.
    """
    width, scale, scheme = VIEWS[view]
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    browser.events.clear()
    for domain in ("Page", "Network", "Runtime", "Log"):
        browser.call(f"{domain}.enable", session)
    browser.call(
        "Network.emulateNetworkConditions",
        session,
        offline=True,
        latency=0,
        downloadThroughput=0,
        uploadThroughput=0,
    )
    browser.call("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": scheme}])
    size = {"width": width, "deviceScaleFactor": scale, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", session, height=900, **size)
    browser.call("Page.navigate", session, url=url)
    browser.wait_for("Page.loadEventFired")
    return target, session


def photograph(browser: Browser, page: Path, view: str, picture: Path, *, query: str = "") -> list[str]:
    """Write one picture of a page, or of what its search finds; return what is wrong with it."""
    width = VIEWS[view][0]
    target, session = open_page(browser, page.resolve().as_uri() + (f"?q={query}" if query else ""), view)
    expression = SEARCHED if query else TYPESET
    state = browser.call("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
    found = json.loads(state["result"]["value"])
    height = min(found["height"], MAX_HEIGHT)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    image = browser.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=clip)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(base64.b64decode(image["data"]))
    browser.call("Target.closeTarget", targetId=target)
    return problems(found, browser.events)


def problems(found: dict[str, int], events: list[dict[str, Any]]) -> list[str]:
    """What measurements and browser events say is wrong, in words."""
    lines = []
    if "results" in found and found["excerpts"] < max(1, found["results"]):
        lines.append(f"search: {found['excerpts']} excerpts of {found['results']} pages found")
    if found["wide"] > 0:
        lines.append(f"scrolls sideways by {found['wide']} px")
    if found["typeset"] < found["formulas"] or found["errors"]:
        lines.append(f"{found['typeset']} of {found['formulas']} formulas typeset, {found['errors']} with errors")
    for event in events:
        url = event.get("params", {}).get("request", {}).get("url", "")
        if event.get("method") == "Network.requestWillBeSent" and url.startswith(("http:", "https:")):
            lines.append(f"reaches for {url}")
        if event.get("method") == "Network.loadingFailed" and not event["params"].get("canceled"):
            lines.append(f"a file failed to load: {event['params'].get('errorText')}")
        if event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
            said = " ".join(str(part.get("value", "")) for part in event["params"]["args"])
            lines.append(f"error in the console: {said}")
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            lines.append(f"error in the console: {event['params']['entry']['text']}")
        if event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            said = details.get("exception", {}).get("description", details.get("text", ""))
            lines.append(
                f"script error: {said.splitlines()[0]} ({details.get('url', 'inline')}:{details['lineNumber']})"
            )
    return lines


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Photograph every page of the built book.")
    parser.add_argument("site", nargs="?", type=Path, default=root / "_build" / "html")
    parser.add_argument("out", nargs="?", type=Path, default=root / "_build" / "screenshots")
    parser.add_argument("--only", default="", help="pages whose name contains this")
    options = parser.parse_args(arguments)
    pages = [p for p in sorted(options.site.rglob("*.html")) if "_static" not in p.relative_to(options.site).parts]
    pages = [p for p in pages if options.only in p.relative_to(options.site).as_posix()]
    if not pages:
        raise SystemExit(f"no pages in {options.site}: build the book first, or name another folder")
    n_problems = 0
    with open_browser() as browser:
        for page in pages:
            name = page.relative_to(options.site).with_suffix("").as_posix()
            for view in VIEWS:
                picture = options.out / view / f"{name.replace('/', '-')}.png"
                wrong = photograph(browser, page, view, picture, query=QUERY if name == "search" else "")
                n_problems += len(wrong)
                print("\n".join([f"{name} ({view}): {line}" for line in wrong]), end="\n" if wrong else "")
    print(f"{len(pages)} pages in {len(VIEWS)} views, {n_problems} problems: {options.out}")
    return 1 if n_problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
