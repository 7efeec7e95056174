"""The explorer: what is in its files, and what a reader can do with it in a browser that has no network."""

import base64
import csv
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from screenshots import BROWSERS, VIEWS, Browser, open_browser, open_page, problems

from dclib.explore.answers import NONE, Answers, Grouping
from dclib.explore.page import BLOCK, SHEET, shown_order, write_explorer

N, CLUSTERS, NEIGHBOURS, SIDE = 10_000, 30, 8, 16
HOSTILE = [
    "a/<script>alert(1)</script>.jpg",
    "a/</script><img src=x onerror=alert(2)>.jpg",
    'a/"quoted", with commas\'.jpg',
    "a/two\nlines.jpg",
    "=1+1.jpg",
    "@home/-x.jpg",
    "a/größe 写真 🌊.jpg",
    "a/\udcff\udcfe bytes.jpg",  # as Python reads a name that is no UTF-8
    "a/100% #1?.jpg",
    "a/\u202egpj.exe\u2028.jpg",
]
BROWSER_LESS = not any(map(shutil.which, BROWSERS))
needs_browser = pytest.mark.skipif(BROWSER_LESS, reason=f"needs a browser: one of {', '.join(BROWSERS)}")
CONTRASTS = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const back = parts(getComputedStyle(node).backgroundColor);
      if (back.length < 4 || back[3] > 0.99) return back;
    }
    return [255, 255, 255];
  };
  const low = [];
  let looked = 0;
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    if (!(own || node.placeholder) || !node.offsetParent) continue;
    const style = getComputedStyle(node, node.placeholder && !node.value ? '::placeholder' : null);
    const [a, b] = [light(parts(style.color)), light(behind(node))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    looked++;
    if (contrast < 4.5) low.push(`${node.tagName}.${node.className}: ${contrast.toFixed(2)}`);
  }
  return looked > 10 ? low : ['no words were found'];
})()"""


def make_grouping(name: str, n: int, clusters: int, *, seed: int = 0) -> Grouping:
    """Clusters of random points on a plane; all that is known of them follows from the points by other means."""
    rng = np.random.default_rng(seed)
    centroids = rng.random((clusters, 2))
    cluster = rng.integers(clusters, size=n)
    place = np.clip(centroids[cluster] + 0.05 * rng.standard_normal((n, 2)), 0, 1)
    apart = np.linalg.norm(place[:, None] - centroids[None], axis=2)
    nearest = np.argsort(apart, axis=1)
    distance, second = np.sort(apart, axis=1)[:, :2].T if clusters > 1 else (apart[:, 0], apart[:, 0] + 1)
    width = min(NEIGHBOURS, n - 1)
    neighbours = (np.arange(n)[:, None] + np.arange(1, width + 1)) % n
    return Grouping(
        name=name,
        cluster=nearest[:, 0].astype(np.int32),
        distance=distance.astype(np.float32),
        second=(nearest[:, 1] if clusters > 1 else np.full(n, NONE)).astype(np.int32),
        sharpness=(1 - distance / second).astype(np.float32),
        place=place.astype(np.float32),
        neighbours=neighbours.astype(np.int32),
        similarity=np.tile(np.linspace(0.99, 0.5, width, dtype=np.float32), (n, 1)),
    )


def make_answers(n: int, *, root: str = "", groupings: int = 1, clusters: int = CLUSTERS) -> Answers:
    """Photographs with hostile names among them; 0 and 1 are exact copies, 2, 3 and 4 nearly the same."""
    paths = [*HOSTILE, *(f"Folder {i % 7}/img_{i:05d}.jpg" for i in range(len(HOSTILE), n))][:n]
    duplicate = np.full(n, NONE, np.int32)
    kinds = [""] * n
    if n >= 5:
        duplicate[:5] = (0, 0, 1, 1, 1)
        kinds[:5] = ["exact", "exact", "near", "near", "near"]
    size = np.tile(np.array([[400, 300]], np.int32), (n, 1))
    size[3:4] = (4000, 3000)  # the largest of its group
    return Answers(
        root=root,
        paths=paths,
        size=size,
        taken=["" if i % 4 == 0 else f"20{i % 20:02d}-06-{1 + i % 28:02d}T10:20:30" for i in range(n)],
        bytes=np.arange(1000, 1000 + n, dtype=np.int64),
        duplicate=duplicate,
        duplicate_kind=kinds,
        groupings=tuple(make_grouping(f"epoch {g}", n, clusters, seed=g) for g in range(groupings)),
    )


def plain_thumbs(n: int) -> np.ndarray:
    """One colour for each photograph, another for each of its near ones."""
    colours = np.random.default_rng(3).integers(0, 256, (n, 3, 1, 1), dtype=np.uint8)
    return np.broadcast_to(colours, (n, 3, SIDE, SIDE))


def read_part(index: Path, name: str) -> Any:
    """What a script hands over, read without the page."""
    text = (index.parent / "data" / f"{name}.js").read_text(encoding="ascii")
    return json.loads(re.fullmatch(r'handOver\("[\w-]+",(.*)\);\n', text, re.DOTALL)[1])


def column(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


# the files


def test_the_files_hold_every_photograph_with_its_own_thumbnail_cluster_and_neighbours(tmp_path):
    n = BLOCK + 150
    answers, thumbs = make_answers(n), plain_thumbs(n)
    answers.groupings[0].neighbours[[0, 7], -1] = NONE  # fewer than the others have
    index = write_explorer(tmp_path / "explorer", answers, thumbs, title="Mine")
    shown = read_part(index, "photographs")
    rows = [answers.paths.index(path) for path in shown["paths"]]  # the page's numbers to rows, by the names alone
    assert sorted(rows) == list(range(n))
    assert [rows[p] for p in column(shown["listed"], "<u4")] == list(range(n))
    known, grouping = answers.groupings[0], read_part(index, "grouping-0")
    np.testing.assert_array_equal(column(grouping["cluster"], "<i4"), known.cluster[rows])
    np.testing.assert_allclose(column(grouping["sharpness"], "<u2") / 65535, known.sharpness[rows], atol=1 / 65535)
    rows.append(NONE)
    for p in (rows.index(0), rows.index(7), 0, BLOCK - 1, BLOCK, n - 1):
        block = read_part(index, f"neighbours-0-{p // BLOCK}")
        near = column(block["nearest"], "<u4").reshape(-1, NEIGHBOURS)[p % BLOCK]
        assert [rows[min(q, n)] for q in near] == known.neighbours[rows[p]].tolist()
    for number in (0, 17, n // SHEET**2):
        sheet = np.asarray(Image.open(index.parent / "sheets" / f"{number}.jpg")).astype(int)
        for cell in range(min(SHEET**2, n - number * SHEET**2)):
            y, x = divmod(cell, SHEET)
            seen = sheet[y * SIDE + SIDE // 2, x * SIDE + SIDE // 2]
            # a plain colour goes through JPEG's rounding of three channels: at most 4 of 255
            assert np.abs(seen - thumbs[rows[number * SHEET**2 + cell], :, 0, 0].astype(int)).max() <= 4


def test_what_stands_for_a_cluster_is_in_the_first_sheets():
    answers = make_answers(1000, clusters=5)
    grouping = answers.groupings[0]
    first = set(shown_order(answers)[: 5 * 15].tolist())
    for cluster in range(5):
        members = np.flatnonzero(grouping.cluster == cluster)
        assert first >= set(members[np.argsort(grouping.distance[members])[:9]].tolist())
        assert first >= set(members[np.argsort(grouping.sharpness[members])[:6]].tolist())


def test_an_explorer_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    answers, thumbs = make_answers(30, clusters=3), plain_thumbs(30)
    index = write_explorer(tmp_path / "explorer", answers, thumbs, title="First & <b>best</b>")
    assert "<title>First &amp; &lt;b&gt;best&lt;/b&gt;</title>" in index.read_text(encoding="utf-8")
    broken = replace(answers.groupings[0], neighbours=np.full((30, 2), 999, np.int32))
    with pytest.raises(IndexError):
        write_explorer(index.parent, replace(answers, groupings=(broken,)), thumbs, title="Second")
    assert "First" in index.read_text(encoding="utf-8")
    write_explorer(index.parent, replace(answers, groupings=()), thumbs, title="Third")
    assert "Third" in index.read_text(encoding="utf-8")
    assert not list((index.parent / "data").glob("grouping*"))
    assert [p.name for p in tmp_path.iterdir()] == ["explorer"]


def test_what_a_reader_typed_is_found_again_by_the_key_that_is_given(tmp_path):
    answers, thumbs = make_answers(30, clusters=3), plain_thumbs(30)
    more, thumbs_more = make_answers(31, clusters=3), plain_thumbs(31)
    given = [
        read_part(write_explorer(tmp_path / "a", a, t, title="A", key=key), "about")["key"]
        for key in ("", "mine")
        for a, t in ((answers, thumbs), (more, thumbs_more))
    ]
    assert given[0] != given[1]
    assert given[2:] == ["mine", "mine"]


def test_an_option_of_a_command_is_not_torn_apart(tmp_path):
    answers, thumbs = make_answers(30, clusters=3), plain_thumbs(30)
    said = ["With --minutes 9 it <goes> on"]
    index = write_explorer(tmp_path / "a", answers, thumbs, title="A", verdict=said)
    assert '<p>With <span class="whole">--minutes 9</span> it &lt;goes&gt; on</p>' in index.read_text(encoding="utf-8")


def test_identical_photographs_in_one_cluster_have_an_explorer(tmp_path):
    """Every distance is 0, so that no share of them can be measured."""
    still = replace(make_grouping("all", 60, 1), sharpness=np.full(60, np.nan, np.float32))
    answers = replace(make_answers(60), groupings=(still,))
    index = write_explorer(tmp_path / "explorer", answers, plain_thumbs(60), title="Same")
    assert column(read_part(index, "grouping-0")["coherence"], "<f4").tolist() == [0]
    assert not column(read_part(index, "grouping-0")["sharpness"], "<u2").any()


def test_thumbnails_of_other_photographs_are_refused(tmp_path):
    answers = make_answers(30, clusters=3)
    with pytest.raises(ValueError, match=r"need thumbnails as uint8 of shape \(30, 3, t, t\).*\(29, 3, 16, 16\)"):
        write_explorer(tmp_path / "explorer", answers, plain_thumbs(29), title="")
    few = replace(answers, groupings=(make_grouping("epoch 0", 20, 3),))
    with pytest.raises(ValueError, match="need a cluster for each of 30 photographs, and 'epoch 0' has 20"):
        write_explorer(tmp_path / "explorer", few, plain_thumbs(30), title="")
    assert not (tmp_path / "explorer").exists()


def test_the_scripts_are_small_and_never_make_html_of_text():
    page = Path(__file__).resolve().parent.parent / "dclib" / "explore" / "page"
    scripts = [path.read_text(encoding="utf-8") for path in page.glob("*.js")]
    assert 0 < sum(len(text.encode()) for text in scripts) < 150_000
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
        "http:",
        "https:",
    ):
        assert not [text[:60] for text in scripts if word in text], word


# in a browser


@dataclass
class Reader:
    """One page in a browser, and what a reader does with it."""

    browser: Browser
    session: str
    downloads: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    def js(self, expression: str) -> Any:
        found = self.browser.call(
            "Runtime.evaluate", self.session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait for a condition; fail after ten seconds, which a page that works never needs."""
        end = time.monotonic() + 10
        while not (found := self.js(f"!!({condition})")):
            assert time.monotonic() < end, f"never became true: {condition}"
            time.sleep(0.02)
        return found

    def open(self, address: str) -> None:
        self.js(f"location.hash = {json.dumps(address)}")
        self.until(f"main.dataset.shown === '#' + {json.dumps(address)}")

    def key(self, name: str, text: str = "") -> None:
        event = {"key": name, "text": text or ("\r" if name == "Enter" else "")}
        self.browser.call("Input.dispatchKeyEvent", self.session, type="keyDown", **event)
        self.browser.call("Input.dispatchKeyEvent", self.session, type="keyUp", key=name)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.browser.call("Input.dispatchMouseEvent", self.session, type=f"mouse{kind}", x=x, y=y, **more)

    def saved(self, button: str, name: str) -> bytes:
        """Press a button and wait for the file that it saves."""
        (self.downloads / name).unlink(missing_ok=True)
        self.js(f"document.querySelector({json.dumps(button)}).click()")
        end = time.monotonic() + 10
        while not (self.downloads / name).exists():
            assert time.monotonic() < end, f"{name} was not saved"
            time.sleep(0.02)
            self.js("0")
        return (self.downloads / name).read_bytes()

    def look(self, view: str) -> None:
        width, scale, scheme = VIEWS[view]
        size = {"width": width, "height": 900, "deviceScaleFactor": scale, "mobile": width < 600}
        self.browser.call("Emulation.setDeviceMetricsOverride", self.session, **size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.call("Emulation.setEmulatedMedia", self.session, features=media)

    def complaints(self) -> list[str]:
        """What the browser reported since the last call, and every request that was not for a file."""
        self.js("0")
        events, self.browser.events[:] = list(self.browser.events), []
        urls = [e["params"]["request"]["url"] for e in events if e.get("method") == "Network.requestWillBeSent"]
        still = {"wide": 0, "formulas": 0, "typeset": 0, "errors": 0}
        return problems(still, events) + [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Reader]:
    def open_one(index: Path) -> Reader:
        downloads = tmp_path_factory.mktemp("downloads")
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        reader = Reader(browser, open_page(browser, index.as_uri(), "desktop")[1], downloads)
        reader.until("document.documentElement.dataset.ready")
        return reader

    return open_one


@pytest.fixture(scope="module")
def answers() -> Answers:
    return make_answers(N, groupings=3)


@pytest.fixture(scope="module")
def reader(answers, opened, tmp_path_factory) -> Reader:
    """10,000 photographs in three clusterings, open; tests use it one after another."""
    folder = tmp_path_factory.mktemp("large") / "explorer"
    return opened(write_explorer(folder, answers, plain_thumbs(N), title="Many", verdict=["Learned."], notes=["Why"]))


@needs_browser
def test_it_opens_with_the_clusters_in_order_of_coherence(reader, answers):
    coherence = answers.groupings[0].coherence()
    links = reader.js(
        "[...document.querySelectorAll('.mosaic')].map(a => new URLSearchParams(a.hash.slice(1)).get('c'))"
    )
    assert [int(c) for c in links] == np.argsort(-coherence, kind="stable")[: len(links)].tolist()
    assert 6 <= len(links) < CLUSTERS
    text = reader.js("main.innerText")
    assert "10,000 photographs, sorted into 30 clusters" in text
    assert "Learned." in text
    assert reader.js("document.querySelector('.mosaic .thumb').getBoundingClientRect().width") > 60
    assert reader.complaints() == []


@needs_browser
def test_ten_thousand_photographs_scroll_past_and_few_are_in_the_page(reader):
    reader.open("view=photographs")
    reader.js("scrollTo(0, 40000)")
    reader.until("[...document.querySelectorAll('[data-item]')].some(n => n.dataset.item > 2000)")  # by its own event
    reader.js("document.querySelector('[data-item] a').click()")
    reader.until("State.route.view === 'photo' && State.view && scrollY === 0")
    reader.js("history.back()")
    reader.until("State.route.view === 'photographs' && State.view")
    assert reader.js("scrollY") == 40000
    seen, most = reader.js("""(() => {
      const seen = new Set(); let most = 0;
      for (let y = 0; y < document.documentElement.scrollHeight; y += 850) {
        scrollTo(0, y); State.view.list.update();
        for (const node of document.querySelectorAll('[data-item]')) {
          const box = node.getBoundingClientRect();
          if (box.bottom > 0 && box.top < innerHeight) seen.add(node.dataset.item);
        }
        most = Math.max(most, document.querySelectorAll('*').length);
      }
      return [seen.size, most];
    })()""")
    assert seen == N
    assert most < 1500


@needs_browser
def test_search_finds_by_name_and_by_date_as_a_plain_loop_does(reader, answers):
    reader.open("view=photographs&q=fOLDER%203%2007")
    wanted = [p for p in answers.paths if "Folder" in p and "3" in p and "07" in p]
    assert reader.js("State.view.list.n") == len(wanted) > 10
    reader.open("view=photographs&from=2001-06-10&to=2003-06-12")
    wanted = [day for day in answers.taken if "2001-06-10" <= day[:10] <= "2003-06-12"]
    assert {day[:10] for day in wanted} >= {"2001-06-10", "2003-06-12"}
    assert reader.js("State.view.list.n") == len(wanted) > 10
    reader.open("view=clusters")
    reader.key("/", "/")
    reader.until("document.activeElement.id === 'search'")
    for letter in "größe":
        reader.key(letter, letter)
    reader.until("document.getElementById('found').textContent === '1 photograph'")
    assert "q=gr%C3%B6%C3%9Fe" in reader.js("location.hash")


@needs_browser
def test_keys_lead_from_a_cluster_to_a_photograph_to_its_neighbours_and_back(reader, answers):
    reader.open("view=cluster&c=3")
    members = np.flatnonzero(answers.groupings[0].cluster == 3)
    in_order = members[np.argsort(answers.groupings[0].distance[members], kind="stable")]
    path = """(i => {
      const link = document.querySelector(`[data-item="${i}"] a`);
      return Store.photos.paths[Number(new URLSearchParams(link.hash.slice(1)).get('p'))];
    })"""
    assert reader.js("State.view.list.n") == len(members)
    assert reader.js(f"{path}(0)") == answers.paths[in_order[0]]
    for name in ("ArrowDown", "ArrowRight", "ArrowRight"):
        reader.key(name)
    assert reader.js("document.activeElement.closest('[data-item]').dataset.item") == "2"
    here = reader.js("location.hash")
    reader.key("Enter")
    reader.until("State.route.view === 'photo' && State.view")
    assert reader.js("Store.photos.paths[State.route.p]") == answers.paths[in_order[2]]
    assert reader.js("State.view.list.n") == NEIGHBOURS
    near = answers.groupings[0].neighbours[in_order[2]]
    assert [reader.js(f"{path}({i})") for i in range(NEIGHBOURS)] == [answers.paths[q] for q in near]
    reader.key("ArrowRight")
    reader.until(f"Store.photos.paths[State.route.p] === {json.dumps(answers.paths[in_order[3]])} && State.view")
    reader.key("Escape")
    reader.until(f"main.dataset.shown === {json.dumps(here)}")
    assert reader.js("document.activeElement.closest('[data-item]').dataset.item") == "2"
    reader.key("?", "?")
    assert reader.js("document.getElementById('help-text').open")
    reader.js("document.getElementById('help-text').close()")


@needs_browser
def test_more_like_this_goes_on_from_neighbour_to_neighbour(reader, answers):
    p = reader.js("Store.photos.paths.indexOf('Folder 1/img_00050.jpg')")
    reader.open(f"view=photographs&near={p}")
    assert reader.js("State.view.list.n") == 200
    found = reader.js("State.view.list.host.querySelector('a').getAttribute('aria-label')")
    assert found.startswith("img_00050.jpg")


@needs_browser
def test_clusterings_are_stepped_through_and_the_map_shows_all_photographs(reader, answers):
    reader.open("view=map")
    reader.until("document.getElementById('map').dataset.seen")
    assert int(reader.js("document.getElementById('map').dataset.seen")) == N
    x, y = reader.js(
        "(b => [b.x + b.width / 2, b.y + b.height / 2])(document.getElementById('map').getBoundingClientRect())"
    )
    reader.mouse("Moved", x, y)
    reader.until("!document.querySelector('.map-card').hidden")
    reader.mouse("Wheel", x, y, deltaX=0, deltaY=-1500)
    reader.until("Number(document.getElementById('map').dataset.seen) < 1000")
    zoom = reader.js("document.getElementById('map').dataset.zoom")
    reader.js("""(range => { range.value = 2; range.dispatchEvent(new Event('input')); })(
      document.querySelector('#grouping input'))""")
    reader.until("State.grouping.number === 2 && State.view.map.place === State.view.map.to")
    assert reader.js("document.getElementById('map').dataset.zoom") == zoom  # the same part of the map
    place = reader.js("Array.from(State.view.map.place.slice(0, 40))")
    rows = [answers.paths.index(path) for path in reader.js("Store.photos.paths.slice(0, 20)")]
    np.testing.assert_allclose(np.reshape(place, (20, 2)), answers.groupings[2].place[rows], atol=1 / 65535)
    reader.js("document.querySelector('#tabs a').click()")
    reader.until("State.route.view === 'clusters' && State.view")
    assert reader.js("State.route.g") == "2"


@needs_browser
def test_on_a_phone_a_tap_shows_a_photograph_and_two_fingers_zoom(reader):
    reader.look("phone")
    reader.browser.call("Emulation.setTouchEmulationEnabled", reader.session, enabled=True, maxTouchPoints=2)
    reader.open("view=map")
    reader.until("document.getElementById('map').dataset.seen")
    reader.js("State.view.map.all()")
    box = "document.getElementById('map').getBoundingClientRect()"
    x, y = reader.js(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")

    def touch(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": a, "y": b, "id": i} for i, (a, b) in enumerate(points)]
        reader.browser.call("Input.dispatchTouchEvent", reader.session, type=f"touch{kind}", touchPoints=fingers)

    touch("Start", (x, y))
    touch("End")
    reader.until("document.querySelector('.map-card.still a')?.textContent === 'Open'")
    assert reader.js("State.route.view") == "map"  # a tap shows, and leaves opening to the reader
    touch("Start", (x - 30, y), (x + 30, y))
    touch("Move", (x - 90, y), (x + 90, y))
    touch("End")
    # fingers three times as far apart; the middle between them stays where it is
    reader.until("document.getElementById('map').dataset.zoom === '3.00'")
    assert reader.js("[State.view.map.view.x, State.view.map.view.y]") == pytest.approx([0.5, 0.5], abs=1e-6)
    reader.browser.call("Emulation.setTouchEmulationEnabled", reader.session, enabled=False)
    reader.look("desktop")


@needs_browser
def test_a_name_survives_a_new_visit_and_names_go_out_and_come_in(reader, answers):
    reader.open("view=cluster&c=4")
    name = '=Strand, "Ostsee" <b>'
    reader.js("document.querySelector('input.name').focus()")
    for letter in name:
        reader.key(letter, letter)
    reader.browser.events.clear()
    reader.browser.call("Page.reload", reader.session)
    reader.browser.wait_for("Page.loadEventFired")
    reader.until("document.documentElement.dataset.ready")
    assert reader.js("document.querySelector('h1').textContent") == name
    reader.open("view=clusters")
    text = reader.saved("#names-export", "clusters.csv").decode("utf-8", "surrogateescape")
    titles, *rows = csv.reader(io.StringIO(text, newline=""))
    assert titles == ["path", "cluster", "name"]
    assert [path.removeprefix("./") for path, _, _ in rows] == list(answers.paths)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert [int(c) for _, c, _ in rows] == answers.groupings[0].cluster.tolist()
    assert {(int(c), given) for _, c, given in rows if given} == {(4, f"'{name}")}
    assert "\r\n" in text.replace("two\nlines", "")
    encoded = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
    again = f"Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0))"
    assert reader.js(f"Store.names = {{}}, readNames(State.grouping, {again})") == 1
    assert reader.js("Store.names['epoch 0'][4]") == name


@needs_browser
def test_duplicates_are_ticked_and_saved_and_the_largest_is_left(reader, answers):
    reader.open("view=duplicates")
    text = reader.js("main.innerText")
    assert "5 photographs show the same as another one, in 2 groups" in text
    reader.js("document.getElementById('tick-all').click()")
    kept = {3, 1}  # the most pixels; the most bytes of two alike
    wanted = sorted(answers.paths[i] for i in set(range(5)) - kept)
    table = reader.saved("#save-csv", "duplicates.csv").decode("utf-8", "surrogateescape")
    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert rows[0] == ["path"]
    assert sorted(row[0].removeprefix("./") for row in rows[1:]) == wanted
    lines = reader.saved("#save-txt", "duplicates.txt").decode().splitlines()
    assert sorted(line.removeprefix("./") for line in lines) == wanted
    box = "document.querySelector('.tick input:not(:checked)')"
    reader.js(f"{box}.click()")
    assert "None would be left" in reader.js("document.querySelector('.copies .alarm:not(:empty)').textContent")


@needs_browser
def test_what_is_ticked_is_that_of_the_photographs_whatever_their_clusters(opened, tmp_path):
    first, moved, others = (make_answers(30, root=str(tmp_path / name), clusters=3) for name in ("a", "moved", "b"))
    boxes = "[...document.querySelectorAll('.tick input:checked')].map(box => box.getAttribute('aria-label'))"

    def visit(answers: Answers, key: str) -> Reader:
        reader = opened(write_explorer(tmp_path / "explorer", answers, plain_thumbs(30), title="Mine", key=key))
        reader.open("view=duplicates")
        return reader

    reader = visit(others, "other clusters")
    reader.js("""localStorage.setItem('dclib-explorer-clusters-ticked', '["=1+1.jpg"]')""")  # by an earlier page
    reader = visit(first, "clusters")
    assert reader.js(boxes) == ["Remove =1+1.jpg"]
    reader.js("document.getElementById('tick-all').click()")
    chosen = reader.js(boxes)
    assert len(chosen) == 3
    assert visit(first, "clusters of a network that has learned on").js(boxes) == chosen
    assert visit(moved, "clusters").js(boxes) == chosen
    assert visit(others, "other clusters").js(boxes) == []
    resized = first.bytes + (np.array(first.paths) == chosen[0].removeprefix("Remove "))
    assert visit(replace(first, bytes=resized), "clusters").js(boxes) == chosen[1:]  # another photograph of that name


@needs_browser
def test_a_phone_scrolls_no_view_sideways_and_dark_is_dark_with_words_that_can_be_read(reader):
    views = ("clusters", "cluster&c=2", "map", "photographs", "duplicates", "photo&p=7")
    backs = {}
    for look in ("phone", "dark", "desktop"):
        reader.look(look)
        for view in views:
            reader.open(f"view={view}")
            assert reader.js("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, view
            assert reader.js(CONTRASTS) == [], (look, view)
        backs[look] = reader.js("getComputedStyle(document.body).backgroundColor")
    assert backs == {"phone": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 30)", "desktop": "rgb(255, 255, 255)"}
    reader.js("document.getElementById('theme').click()")
    assert reader.js("getComputedStyle(document.body).backgroundColor") == backs["dark"]
    reader.js("document.getElementById('theme').click()")


@needs_browser
def test_a_browser_that_keeps_nothing_is_named_and_nothing_was_amiss_so_far(reader):
    assert reader.complaints() == []
    reader.open("view=cluster&c=1")
    assert reader.js("document.getElementById('storage').hidden")
    reader.js("Storage.prototype.setItem = () => { throw new Error('full') }")
    reader.js("document.querySelector('input.name').focus()")
    reader.key("x", "x")
    assert not reader.js("document.getElementById('storage').hidden")
    assert "does not keep what you type" in reader.js("document.getElementById('storage').innerText")


@needs_browser
def test_few_photographs_without_clusters_are_shown_large_from_their_own_files(opened, tmp_path):
    """Names as they may be on a disk: each photograph is found again by its address, but for one that is gone."""
    n = len(HOSTILE)
    answers = make_answers(n, root=str(tmp_path / "my photos #1"), groupings=0)
    for i, path in enumerate(answers.paths):
        file = tmp_path / "my photos #1" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if i != 2:
            Image.new("RGB", (40, 30 + i)).save(file, "jpeg")
    reader = opened(
        write_explorer(tmp_path / "explorer", answers, plain_thumbs(n), title="Few </script>", verdict=["Too few."])
    )
    assert reader.js("[...document.querySelectorAll('#tabs a')].map(a => a.firstChild.textContent)") == [
        "Photographs",
        "Duplicates",
    ]
    assert "Too few." in reader.js("main.innerText")
    assert reader.js("Store.photos.paths.map(p => [...p].map(c => c.codePointAt(0)))") == [
        [ord(c) for c in path] for path in answers.paths
    ]
    for p in range(n):
        reader.open(f"view=photo&p={p}")
        if p == 2:
            reader.until("document.querySelector('figcaption').textContent.includes('cannot show the original')")
            assert [line for line in reader.complaints() if "FILE_NOT_FOUND" not in line] == []
        else:
            reader.until("document.querySelector('.large img.there')")
            assert reader.js("document.querySelector('.large img').naturalHeight") == 30 + p
    assert reader.complaints() == []
