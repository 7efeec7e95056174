"""Two networks in a page: what a picture takes in a browser, from the file to what the page shows.

    python benchmarks/page_network.py

Opens the page with the networks that come with the project in a headless Chromium, loads them by its button, and gives
it each of its examples in turn, then a JPEG of noise as large as a photograph. Milliseconds of all that happens to a
picture (it is decoded, goes through two networks in four turns each, and is shown), and of one pass through one of
them, by the clock and of a core's own time, go to ``results/benchmarks/page_network.json``. Where other programs run,
the second alone says something.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from measuring import benchmark_card, record_path, summary
from PIL import Image

from dclib.machine import cpu_name
from dclib.press.network import CLUSTERING, page_networks, write_scripts
from dclib.press.network_blocks import blocks
from dclib.records import Record, write_records

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from screenshots import open_browser, open_page

PRESET = "pocket"
ROOMS = ("press/network", "press/network_blocks")
PHOTOGRAPH = (4000, 3000)  # pixels
START = """(async (addresses) => {
  document.getElementById("net-load").click();
  const said = document.getElementById("net-said");
  while (!said.textContent.startsWith("Loaded")) await new Promise(r => setTimeout(r, 20));
  const page = window.dclibNetwork, network = page.network("NAME", page.about);
  const files = addresses.map(a => new Blob([Uint8Array.from(atob(a), c => c.charCodeAt(0))]));
  window.measured = {
    all: async () => { for (const file of files) await page.give(file); return files.length; },
    "one pass": async () => { for (let i = 0; i < 8; i++) network.see(page.shown.pixels); return 8; },
  };
})"""
TIMED = """(async () => {
  const began = performance.now(), n = await window.measured["NAME"]();
  return JSON.stringify([n, performance.now() - began]);
})()"""


def measure(files: list[bytes], repeats: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of all that each file asks for, and of one pass: by the clock, and of a core's own time."""
    networks, found = page_networks(PRESET, runs=False), defaultdict[tuple[str, str], list[float]](list)
    addresses = json.dumps([base64.b64encode(file).decode() for file in files])
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        write_scripts(networks, Path(folder))
        page = Path(folder) / "network.html"
        page.write_text(f"<!DOCTYPE html><meta charset=utf-8>{''.join(blocks(networks).values())}", encoding="utf-8")
        _, session = open_page(browser, page.as_uri(), "desktop")
        browser.call("Performance.enable", session, timeDomain="threadTicks")

        def evaluate(expression: str) -> str:
            told = {"expression": expression, "awaitPromise": True, "returnByValue": True}
            return str(browser.call("Runtime.evaluate", session, **told)["result"].get("value"))

        def busy() -> float:
            metrics = browser.call("Performance.getMetrics", session)["metrics"]
            return next(1000 * float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

        evaluate(f"{START.replace('NAME', CLUSTERING)}({addresses})")
        for _ in range(repeats + 1):
            for what in ("all", "one pass"):
                before = busy()
                n, passed = json.loads(evaluate(TIMED.replace("NAME", what)))
                found[what, "clock"].append(passed / n)
                found[what, "core"].append((busy() - before) / n)
    return {name: values[1:] for name, values in found.items()}  # the first time, code is not yet compiled


def photograph() -> bytes:
    """A JPEG of noise, of the size of a camera's."""
    noise = np.random.default_rng(0).integers(0, 256, (PHOTOGRAPH[1] // 8, PHOTOGRAPH[0] // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="times that each example is given")
    parser.add_argument("--output", type=Path, default=record_path("page_network"))
    options = parser.parse_args()
    began = time.monotonic()
    networks = page_networks(PRESET, runs=False)
    examples = [(networks.folder / one["file"]).read_bytes() for one in networks.about["examples"]]
    records: list[Record] = []
    for what, files, repeats in (("example", examples, options.repeats), ("photograph", [photograph()], 3)):
        for (name, by), values in measure(files, repeats).items():
            records += summary("milliseconds", values, "ms", len(values), picture=what, work=name, by=by)
    card = benchmark_card(
        {"repeats": options.repeats, "photograph": PHOTOGRAPH},
        ROOMS,
        began,
        device=cpu_name(1),
        networks={name: one["weights_sha256"][:12] for name, one in networks.about["networks"].items()},
    )
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
