"""What a reader wants of the built book, done in a browser by mouse and keyboard alone, as somebody who is new to it.

    python tests/reader_tasks.py [SITE] [OUT] [--only NAME]

SITE is _build/html and OUT is _build/reader unless given. Each task begins at a page that a reader would begin at, ends
with a picture in OUT, and says what was found; what was found is compared with the records. The network is off, and
nothing but files may be asked for. A task whose part this book was built without says so. The exit status is 1 if a
task could not be done.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image, ImageDraw
from screenshots import Browser, open_browser, open_page, problems

from dclib.records import Record, RunCard
from dclib.report.scorecard import judge

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 15.0  # seconds that a page which works never needs
KEYS = {"Enter": ("\r", 13), "Tab": ("", 9), "Escape": ("", 27)}
CENTRE = """(() => {
  const found = [...document.querySelectorAll(%s)].filter(e => e.getClientRects().length && e.textContent.includes(%s));
  if (!found.length) return null;
  found[0].scrollIntoView({block: 'center', behavior: 'instant'});
  const box = found[0].getClientRects()[0];
  return [box.x + Math.min(box.width / 2, 40), box.y + box.height / 2];
})()"""


class NotDoneError(Exception):
    """A reader would have given up here; the message says why."""


class AbsentError(Exception):
    """This book was built without what the task is about."""


@dataclass
class Reader:
    """A page in a browser and somebody in front of it."""

    browser: Browser
    site: Path
    out: Path
    downloads: Path
    session: str = ""

    def open(self, page: str, view: str = "desktop") -> None:
        """Begin at a page."""
        address = (self.site / page).resolve().as_uri()
        target, self.session = open_page(self.browser, address, view)
        del target

    def js(self, expression: str) -> Any:
        found = self.browser.call(
            "Runtime.evaluate", self.session, expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise NotDoneError(f"the page stumbled over {expression!r}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, condition: str, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if self.js(f"!!({condition})"):
                    return
            except (RuntimeError, NotDoneError):  # between two pages
                pass
            if time.monotonic() > end:
                raise NotDoneError(f"waited in vain for {what}")
            time.sleep(0.05)

    def click(self, selector: str, words: str = "") -> None:
        """Put the mouse on the first visible element with these words once it stands still, and press."""
        centre, end = CENTRE % (json.dumps(selector), json.dumps(words)), time.monotonic() + PATIENCE
        self.until(centre, f"{selector} with {words!r} to be seen")
        before, place = None, self.js(centre)
        while place is None or place != before:  # results of a search come one by one, and push others down
            if time.monotonic() > end:
                raise NotDoneError(f"{selector} with {words!r} never stood still")
            time.sleep(0.25)
            before, place = place, self.js(centre)
        x, y = place
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            more = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.browser.call("Input.dispatchMouseEvent", self.session, type=kind, x=x, y=y, **more)

    def follow(self, selector: str, words: str = "", *, to: str) -> None:
        """Click on a link, and wait for the page that it leads to."""
        self.click(selector, words)
        self.until(f"location.href.includes({json.dumps(to)}) && document.readyState === 'complete'", f"page {to}")

    def type(self, words: str) -> None:
        self.browser.call("Input.insertText", self.session, text=words)

    def press(self, name: str, modifiers: int = 0) -> None:
        text, code = KEYS.get(name, ("", ord(name.upper()[0])))
        event = {"key": name, "modifiers": modifiers, "windowsVirtualKeyCode": code}
        self.browser.call("Input.dispatchKeyEvent", self.session, type="keyDown", text=text, **event)
        self.browser.call("Input.dispatchKeyEvent", self.session, type="keyUp", **event)

    def words(self, selector: str) -> str:
        """What can be read at an element."""
        found = self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")
        if found is None:
            raise NotDoneError(f"there is no {selector} on this page")
        return " ".join(str(found).split())

    def needs(self, selector: str, what: str) -> None:
        if not self.js(f"!!document.querySelector({json.dumps(selector)})"):
            raise AbsentError(what)

    def saved(self, name: str) -> Path:
        """Wait for a file that the browser saves."""
        path = self.downloads / name
        end = time.monotonic() + PATIENCE
        while not path.is_file():
            if time.monotonic() > end:
                raise NotDoneError(f"{name} was not saved")
            self.js("0")
            time.sleep(0.05)
        return path

    def picture(self, name: str) -> None:
        image = self.browser.call("Page.captureScreenshot", self.session, format="png")
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"{name}.png").write_bytes(base64.b64decode(image["data"]))

    def complaints(self) -> list[str]:
        """What the browser had to say since the page was opened, and every request that was not for a file."""
        asked = [
            e["params"]["request"]["url"] for e in self.browser.events if "requestWillBeSent" in e.get("method", "")
        ]
        still = {"wide": 0, "formulas": 0, "typeset": 0, "errors": 0}
        kept = [line for line in problems(still, self.browser.events) if "ERR_ABORTED" not in line]  # became a download
        return kept + [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise NotDoneError(f"{what}: need {wanted!r}; got {found!r}")


def records_of(path: Path, whose: str) -> list[Record]:
    """What a file to download holds, as records."""
    found = []
    for run in json.loads(path.read_text(encoding="utf-8")):
        if run["whose"] == whose:
            card = RunCard(**run["card"])
            found += [Record(**record, card=card) for record in run["records"]]
    return found


# the tasks: each returns what the reader now knows


def verdict_on_c7(reader: Reader) -> str:
    reader.open("index.html")
    reader.follow(".dclib-verdicts ol a", "C7", to="stages/scorecard.html#claim-C7")
    row = reader.words("#claim-C7")
    lane = reader.words("#claim-C7 .claim-lane")
    whose = "own" if "this run" in lane else "published"
    stages = ("pretrain", "linear_probe", "retrieval")
    records = [r for stage in stages for r in records_of(reader.site / "data" / f"{stage}.json", whose)]
    (verdict,) = [verdict for verdict in judge(records) if verdict.claim.id == "C7"]
    expect(lane.partition(" ·")[0].strip(), verdict.outcome, "the verdict on C7")
    expect(verdict.claim.statement in row, True, "the words of C7")
    return f"C7 {lane}"


def data_of_table_1(reader: Reader) -> str:
    reader.open("stages/linear_probes.html")
    reader.click("details.dclib-provenance summary")
    reader.click("details.dclib-provenance a", "linear_probe.csv")
    with reader.saved("linear_probe.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = records_of(reader.site / "data" / "linear_probe.json", rows[0]["whose"])
    told = [row for row in rows if row["whose"] == rows[0]["whose"]]
    expect([float(row["value"]) for row in told], [record.value for record in known], "the values of Table 1's data")
    return f"linear_probe.csv, {len(rows)} values"


def dark_on_a_phone(reader: Reader) -> str:
    reader.open("stages/linear_probes.html", "phone-dark")
    reader.until("document.readyState === 'complete'", "the page")
    red, green, blue = map(int, re.findall(r"\d+", reader.js("getComputedStyle(document.body).backgroundColor"))[:3])
    expect(max(red, green, blue) < 80, True, f"a dark page, not one of ({red}, {green}, {blue})")
    wide = reader.js("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    expect(wide <= 0, True, f"a page that does not scroll sideways, by {wide} pixels")
    reader.js("document.querySelector('.dclib-table').scrollIntoView({block: 'start', behavior: 'instant'})")
    return f"dark, {reader.js('innerWidth')} pixels wide"


def search_and_follow(reader: Reader) -> str:
    word = "whitening"
    reader.open("index.html")
    reader.press("k", modifiers=2)  # Control
    reader.until("document.activeElement?.name === 'q'", "the field of the search")
    reader.type(word)
    reader.press("Enter")
    reader.until("document.querySelectorAll('#search-results li p.context').length > 1", "results with excerpts")
    excerpt = reader.words("#search-results li p.context")
    expect(word in excerpt.lower(), True, f"an excerpt with the word, not {excerpt!r}")
    title = reader.words("#search-results li a")
    reader.follow(
        "#search-results li a", to=reader.js("new URL(document.querySelector('#search-results li a').href).pathname")
    )
    expect(word in reader.words("article").lower(), True, "a page with the word on it")
    return f"{title}: {excerpt[:70]}"


def follow_the_citation(reader: Reader) -> str:
    reader.open("index.html")
    cite = reader.words("#cite-this-book .highlight")
    expect("@software{dclib" in cite and "@inproceedings{caron2019" in cite, True, f"both entries, not {cite!r}")
    reader.follow("article a.reference", "Caron", to="bibliography.html#")
    shown = reader.js("document.querySelector(':target')?.innerText ?? ''")
    title = "Unsupervised Pre-Training of Image Features on Non-Curated Data"  # the list sets capitals its own way
    expect(title.lower() in shown.lower(), True, f"the paper, not {shown!r}")
    return " ".join(shown.split())[:90]


def how_long_a_page_takes(reader: Reader) -> str:
    reader.open("index.html")
    reader.follow(".bd-sidebar-primary a", "What ran", to="_generated/run_status.html")
    title = "Linear probes: what each layer knows"
    row = reader.js(
        f"[...document.querySelectorAll('article tr')].map(r => r.innerText).find(t => t.includes({json.dumps(title)}))"
    )
    if not row or not re.search(r"\b\d+(\.\d+)?\s(s|min|h)\b", row):
        raise NotDoneError(f"there is no time beside {title!r}: {row!r}")
    reader.js(CENTRE % ('"article tr a"', json.dumps(title)))
    return " ".join(row.split())[:90]


def from_a_number_to_its_record(reader: Reader) -> str:
    reader.open("stages/linear_probes.html")
    name = "DeeperCluster"
    cells = reader.js(
        "[...document.querySelectorAll('.dclib-table tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"
        f".find(r => r[0] === {json.dumps(name)})"
    )
    shown = [float(found[0]) for cell in cells[1:] if (found := re.match(r"\d+\.\d", cell))]
    reader.click("details.dclib-provenance summary")
    reader.follow("details.dclib-provenance a", "linear_probe.json", to="data/linear_probe.json")
    runs = json.loads(reader.js("document.body.innerText"))
    runs = [run for run in runs if run["card"]["method"] == "deepercluster"]
    sets = {(record["keys"]["dataset"], *_made_by(run)) for run in runs for record in run["records"]}
    for dataset, *made_by in sorted(sets):
        known: dict[int, list[float]] = {}
        for run in runs:
            for record in run["records"] if [*_made_by(run)] == made_by else ():
                if record["name"] == "top1" and record["keys"]["dataset"] == dataset:
                    known.setdefault(record["keys"]["layer"], []).append(record["value"])
        means = [round(mean(values), 1) for _, values in sorted(known.items())]
        if all(any(abs(number - one) < 0.051 for one in means) for number in shown[:13]):
            return f"{name}, {dataset}: {shown[:13]} are means of the records of {', '.join(made_by)}"
    raise NotDoneError(f"the numbers {shown} are in no record of {name}")


def _made_by(run: Mapping[str, Any]) -> tuple[str, str]:
    """Whose a run is and of which preset: a file has all that pages speak of."""
    return run["whose"], run["card"]["preset"]


def read_a_term(reader: Reader) -> str:
    reader.open("method.html")
    reader.follow(".bd-sidebar-primary a", "Glossary", to="glossary.html")
    told = reader.js("document.getElementById('term-pseudo-label')?.nextElementSibling?.innerText ?? ''")
    if len(told.split()) < 5:
        raise NotDoneError(f"the glossary says nothing of a pseudo-label: {told!r}")
    reader.js("document.getElementById('term-pseudo-label').scrollIntoView({block: 'center', behavior: 'instant'})")
    return f"pseudo-label: {' '.join(told.split())[:80]}"


def name_a_cluster(reader: Reader) -> str:
    reader.open("stages/pretraining_deepercluster.html")
    reader.follow("article a", "look through the images", to="explorer/index.html")
    reader.until("document.documentElement.dataset.ready", "the explorer")
    reader.click("a.mosaic")
    reader.until("document.querySelector('input.name')", "a cluster")
    reader.click("input.name")
    reader.type("Mine")
    reader.browser.call("Page.reload", reader.session)
    reader.until(
        "document.documentElement.dataset.ready && document.querySelector('h1')?.textContent === 'Mine'", "its name"
    )
    return "a cluster is called Mine, after a new visit too"


def command_for_three_seeds(reader: Reader) -> str:
    reader.open("stages/retrieval.html")
    reader.needs(".dclib-rerun", "the form that runs a page again")
    reader.click(".dclib-rerun > summary")
    reader.click("#rerun-seeds")
    reader.js("document.getElementById('rerun-seeds').select()")
    reader.type("3")
    reader.press("Tab")
    reader.click(".dclib-rerun .dclib-copy button")
    reader.until("/copied/.test(document.querySelector('.dclib-rerun .dclib-copied').textContent)", "the copy")
    command = reader.js("document.querySelector('.dclib-rerun [data-command]').textContent")
    asks = re.search(r"SEEDS=3\b|seeds\W+\[0, 1, 2\]", " ".join(command.split()))
    stands = reader.js("document.querySelectorAll('.dclib-rerun [data-command]').length") and "notebooks/05" in command
    if not (asks or (stands and "seeds" not in command)):  # three may be what the page has already
        raise NotDoneError(f"the command asks for no three seeds: {command!r}")
    return " ".join(command.split())


def cluster_of_an_image(reader: Reader) -> str:
    if not (reader.site / "network.html").is_file():
        raise AbsentError("the networks that run in a page")
    path = reader.downloads / "disc.png"
    picture = Image.new("RGB", (96, 96), (60, 120, 60))
    ImageDraw.Draw(picture).ellipse((20, 20, 76, 76), fill=(200, 40, 40))
    picture.save(path)
    reader.open("network.html")
    reader.click("#net-load")
    reader.until("document.getElementById('net-said').textContent.startsWith('Loaded')", "the networks")
    said = reader.words("#net-said")
    reader.until(CENTRE % ('"#net-drop"', '""'), "the place to drop a picture")
    x, y = reader.js(CENTRE % ('"#net-drop"', '""'))
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        reader.browser.call("Input.dispatchDragEvent", reader.session, type=kind, x=x, y=y, data=data)
    reader.until(
        f"!['', 'Looking …', {json.dumps(said)}].includes(document.getElementById('net-said').textContent)", "an answer"
    )
    reader.js("document.getElementById('net-cluster-0').scrollIntoView({block: 'center', behavior: 'instant'})")
    told = reader.words("#net-cluster-0")
    if not re.search(r"\d", told):
        raise NotDoneError(f"no cluster is named: {told!r}")
    return told[:90]


def print_a_page(reader: Reader) -> str:
    reader.open("stages/scorecard.html")
    reader.until("document.readyState === 'complete'", "the page")
    printed = base64.b64decode(reader.browser.call("Page.printToPDF", reader.session, printBackground=True)["data"])
    reader.out.mkdir(parents=True, exist_ok=True)
    (reader.out / "scorecard.pdf").write_bytes(printed)
    sheets = len(re.findall(rb"/Type\s*/Page\b", printed))
    expect(printed[:5], b"%PDF-", "a PDF")
    expect(1 < sheets < 60, True, f"a number of sheets, not {sheets}")
    return f"{sheets} sheets"


TASKS: Mapping[str, Callable[[Reader], str]] = {
    task.__name__: task
    for task in (
        verdict_on_c7,
        command_for_three_seeds,
        cluster_of_an_image,
        data_of_table_1,
        dark_on_a_phone,
        print_a_page,
        search_and_follow,
        follow_the_citation,
        how_long_a_page_takes,
        from_a_number_to_its_record,
        read_a_term,
        name_a_cluster,
    )
}


def do_tasks(site: Path, out: Path, only: str = "") -> int:
    """Do those whose name contains ``only``, say how each went, and return how many could not be done."""
    failed = 0
    for name, task in TASKS.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as downloads, open_browser() as browser:  # each as on a first visit
            browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=downloads)
            reader = Reader(browser, site, out, Path(downloads))
            try:
                said = task(reader)
                wrong = reader.complaints()
                state = "but " + "; ".join(wrong) if wrong else "done"
                failed += bool(wrong)
            except AbsentError as error:
                state, said = "absent", f"this book was built without {error}"
            except NotDoneError as error:
                state, said = "NOT DONE", str(error)
                failed += 1
            if state != "absent" and reader.session:
                reader.picture(name)
            print(f"{name}: {state}: {said}", flush=True)
    return failed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Do what a reader wants of the built book.")
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "_build" / "reader")
    parser.add_argument("--only", default="", help="tasks whose name contains this")
    options = parser.parse_args(arguments)
    if not (options.site / "index.html").is_file():
        raise SystemExit(f"no book in {options.site}: build it first, or name another folder")
    return 1 if do_tasks(options.site, options.out, options.only) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
