"""How clusters form, in numbers, in the book's files, and under a reader's hands in a browser without a network."""

import base64
import itertools
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from screenshots import BROWSERS, VIEWS, Browser, open_browser, open_page, problems
from sklearn.metrics import normalized_mutual_info_score

from dclib.presets import load_preset, project_root
from dclib.press import publish
from dclib.press import slider as page
from dclib.press.explorer import Kept, book_answers
from dclib.press.pool import Pool
from dclib.records import read_records
from dclib.report import forming as report
from dclib.report.forming import Course
from dclib.train.forming import Formed, keep_together, mapped_rows, read_together

M, STEPS, CLUSTERS = 200, 4, 6
PICTURES = project_root() / "results" / "pocket" / "pictures"
BROWSER_LESS = not any(map(shutil.which, BROWSERS))
needs_browser = pytest.mark.skipif(BROWSER_LESS, reason=f"needs a browser: one of {', '.join(BROWSERS)}")


def made(seed: int = 0, steps: int = STEPS) -> list[Formed]:
    """Clusterings that settle: ever fewer images change, and numbers mean nothing from one to the next."""
    rng = np.random.default_rng(seed)
    clusters = rng.integers(CLUSTERS, size=M)
    formed = []
    for step in range(steps):
        moved = rng.random(M) < 0.6 / (step + 1)
        clusters = np.where(moved, rng.integers(CLUSTERS, size=M), clusters)
        place = rng.standard_normal((M, 2)) * 0.2 + np.stack([clusters % 3, clusters // 3], axis=1) * (step + 1)
        formed.append(Formed(M, step, rng.permutation(CLUSTERS)[clusters].astype(np.uint8), place.astype(np.float32)))
    return formed


@pytest.fixture(scope="module")
def found() -> list[Course]:
    return [report.follow("deepercluster", made()), report.follow("deepercluster_rgb", made(1, 3))]


@pytest.fixture(scope="module")
def thumbs() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (M, 3, 16, 16), dtype=np.uint8)


# --- numbers


def test_numbers_follow_the_largest_overlaps():
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = rng.integers(0, 7, 60) * 3, rng.integers(0, 5, 60)
        names = report.renamed(before, after)
        pairs = {(int(old), int(new)) for old, new in zip(before, names, strict=True)}
        assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})  # one to one
        left, free = set(before.tolist()), set(after.tolist())
        while left and free:  # the largest overlap first, by counting all of them again each time
            overlaps = {(o, a): int(np.sum((before == o) & (after == a))) for o, a in itertools.product(left, free)}
            most = max(overlaps.values())
            best = {pair for pair, count in overlaps.items() if count == most}
            if not most:
                break
            chosen = next(pair for pair in sorted(best) if pair in pairs)
            left.remove(chosen[0])
            free.remove(chosen[1])
        assert all(new not in after for old, new in pairs if old in left)


def test_agreement_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    for k in (1, 2, 9):
        one, other = rng.integers(0, k, 80), rng.integers(0, 5, 80)
        # both in double precision, summed in another order
        expected = pytest.approx(normalized_mutual_info_score(one, other), abs=1e-12)
        assert report.mutual_information(one, other) == expected
    assert report.mutual_information(np.zeros(5, np.int64), np.zeros(5, np.int64)) == 1


def test_colour_share_is_what_is_left_after_the_spread_inside_clusters():
    rng = np.random.default_rng(3)
    clusters, colours = rng.integers(0, 5, 90) * 2, rng.integers(0, 256, (90, 3), dtype=np.uint8)
    values = colours.astype(float)
    inside = sum(np.square(values[clusters == c] - values[clusters == c].mean(axis=0)).sum() for c in set(clusters))
    share = 1 - inside / np.square(values - values.mean(axis=0)).sum()
    assert report.colour_share(clusters, colours) == pytest.approx(share, abs=1e-12)
    assert report.colour_share(np.arange(90), colours) == pytest.approx(1)
    assert report.colour_share(np.zeros(90, np.int64), colours) == pytest.approx(0)


def test_a_course_tells_what_changed_and_keeps_the_last_numbers():
    formed = made()
    course = report.follow("deepercluster", formed)
    assert course.clusters[-1].tolist() == formed[-1].clusters.tolist()
    assert [course.when(i) for i in range(2)] == ["at the start", "after epoch 1"]
    for i in range(1, STEPS):
        assert course.changed[i] == pytest.approx(np.mean(course.clusters[i] != course.clusters[i - 1]))
        agreement = normalized_mutual_info_score(formed[i - 1].clusters, formed[i].clusters)
        assert course.agreement[i] == pytest.approx(agreement, abs=1e-12)
    assert course.changed[1] > course.changed[3]
    for place in course.places:
        assert place.min() >= 0
        assert place.max() <= 1


# --- published ones


@pytest.mark.parametrize("method", report.FORMED)
def test_published_clusterings_are_those_that_the_published_records_measured(method):
    path = PICTURES / report.published_name(method, 0)
    formed = read_together(path)
    records = [r for r in read_records(PICTURES.parent / "records" / "pretrain") if r.card]
    own = [r for r in records if (r.card.method, r.card.seed) == (method, 0)]
    measured = {r.keys["assignment"]: r.value for r in own if r.name == "nmi_previous"}
    assert len(formed) == len(measured) + 1
    for number, (before, after) in enumerate(itertools.pairwise(formed), 1):
        agreement = normalized_mutual_info_score(before.clusters, after.clusters)
        assert agreement == pytest.approx(measured[number], abs=1e-9)  # the same sum in another order
    assert formed[0].place.shape == (len(mapped_rows(10_000)), 2)
    assert path.stat().st_size < 300_000


def test_published_clusterings_stay_with_the_records_that_they_belong_to(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    preset = load_preset("pocket")
    before, same, other = tmp_path / "before", tmp_path / "same", tmp_path / "other"
    name, record = f"pictures/{report.published_name('deepcluster', 0)}", "records/pretrain/deepcluster-s0.json"
    keep_together(before / name, made())
    for folder, content in ((before, "a"), (same, "a"), (other, "b")):
        (folder / record).parent.mkdir(parents=True)
        (folder / record).write_text(content)
        publish.publish_formed(preset, before, folder)
    assert (same / name).read_bytes() == (before / name).read_bytes()
    assert not (other / name).exists()
    run = tmp_path / "runs" / "pocket" / "runs" / "deepcluster-s0-abc" / "clusterings"
    keep_together(run / "000.npz", made(5)[:1])
    publish.publish_formed(preset, before, other)
    assert read_together(other / name)[0].clusters.tolist() == made(5)[0].clusters.tolist()


# --- the explorer


def test_the_explorer_has_the_clusterings_of_a_run_one_by_one(found, thumbs):
    names = [f"cat/{i}.jpg" for i in range(M)]
    pool = Pool(M, names, [""] * M, np.zeros((M, 2), np.int32), True, lambda: thumbs)
    kept = [Kept("rotnet", [np.arange(M) % 3], is_published=True)]
    answers = book_answers(pool, thumbs, kept, found)
    names = [(one.family, one.name) for one in answers.groupings]
    assert names[:3] == [
        ("By network", "RotNet"),
        ("DeeperCluster, epoch by epoch", "DeeperCluster, at the start"),
        ("DeeperCluster, epoch by epoch", "DeeperCluster, after epoch 1"),
    ]
    assert len(names) == 1 + STEPS + 3
    for number, one in enumerate(answers.groupings[1 : 1 + STEPS]):
        assert one.cluster.tolist() == found[0].clusters[number].tolist()
        np.testing.assert_array_equal(one.place, found[0].places[number])


# --- the page


def make_site(folder: Path, found: list[Course], thumbs: np.ndarray | None) -> Path:
    """A book of one page, as small as it can be, with the slider."""
    figure = report.show(report.draw_courses(found), alt="Maps", caption="Maps of clusterings")
    place = f'<div class="dclib-forming" data-preset="pocket">{figure.html}</div>'
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    style = "<style>body{margin:1em} img{max-width:100%}</style>"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages" / "colour.html").write_text(
        f'<!doctype html><html data-theme="light"><head>{head}{style}</head><body><h1>Colour</h1>{place}</body></html>'
    )
    (folder / "stages" / "other.html").write_text("<head></head>")
    shutil.copytree(project_root() / "book" / "_extra" / "forming", folder / "forming")
    assert page.write_forming(folder, "pocket", found, thumbs) == [folder / "stages" / "colour.html"]
    return folder / "stages" / "colour.html"


def content_of(site: Path) -> Any:
    text = (site / "forming" / "data.js").read_text(encoding="ascii")
    return json.loads(re.fullmatch(r"dclibForming\((.*)\);\n", text)[1])


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_script_is_handed_every_map_and_the_pictures_of_the_right_clusters(found, thumbs, tmp_path):
    make_site(tmp_path, found, thumbs)
    content, sheet = content_of(tmp_path), np.asarray(Image.open(tmp_path / "forming" / "sheet.jpg"))
    assert (tmp_path / "stages" / "other.html").read_text() == "<head></head>"
    small = np.stack(
        [
            np.asarray(Image.fromarray(t.transpose(1, 2, 0)).resize((page.SIDE, page.SIDE), Image.Resampling.BOX))
            for t in thumbs
        ]
    ).astype(float)
    for course, network in zip(found, content["networks"], strict=True):
        assert network["when"][0] == "at the start"
        for step, (clusters, places) in enumerate(zip(network["clusters"], network["places"], strict=True)):
            assert unpacked(clusters, "<u1").tolist() == course.clusters[step].tolist()
            shown = unpacked(places, "<u2").reshape(-1, 2) / 65535
            np.testing.assert_allclose(shown, course.places[step], atol=1 / 65535)
            for cluster, tiles in zip(network["followed"], network["pictures"][step], strict=True):
                members = np.flatnonzero(course.clusters[step] == cluster)
                assert len(tiles) == min(page.PICTURES, len(members))
                for tile in tiles:
                    y, x = (page.SIDE * part for part in divmod(tile, page.PER_ROW))
                    seen = sheet[y : y + page.SIDE, x : x + page.SIDE].astype(float)
                    assert np.abs(small - seen).mean(axis=(1, 2, 3)).argmin() in members


def test_without_pictures_or_maps_there_is_less_or_nothing(found, tmp_path):
    make_site(tmp_path / "plain", found, None)
    content = content_of(tmp_path / "plain")
    assert (content["tiles"], content["colours"], content["networks"][0]["colour"]) == (0, "", [])
    assert not (tmp_path / "plain" / "forming" / "sheet.jpg").exists()
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "a.html").write_text('<head></head><div class="dclib-forming" data-preset="pocket"></div>')
    bare = [replace(found[0], places=tuple(place[:0] for place in found[0].places))]
    assert page.write_forming(tmp_path, "pocket", bare, None) == []
    assert page.write_forming(tmp_path, "smoke", found, None) == []


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(found, thumbs, tmp_path_factory) -> Path:
    return make_site(tmp_path_factory.mktemp("book") / "html", found, thumbs)


def reader(browser: Browser, session: str) -> Callable[[str], Any]:
    def js(expression: str) -> Any:
        found = browser.call("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    return js


def until(js: Callable[[str], Any], condition: str) -> None:
    """Wait for a condition; fail after ten seconds, which a page that works never needs."""
    end = time.monotonic() + 10
    while not js(f"!!({condition})"):
        assert time.monotonic() < end, f"never became true: {condition}"
        time.sleep(0.02)


MAPS = "[...document.querySelectorAll('.dclib-forming canvas')].map(canvas => canvas.toDataURL())"
SAID = "[...document.querySelectorAll('.forming-said')].map(node => node.textContent)"


def settled(js: Callable[[str], Any]) -> list[str]:
    """The maps once nothing moves on them."""
    before = None
    while (now := js(MAPS)) != before:
        before = now
        time.sleep(0.15)
    return now


@needs_browser
def test_the_slider_moves_the_dots_and_changes_words_and_pictures(browser, site, found):
    target, session = open_page(browser, site.as_uri(), "desktop")
    js = reader(browser, session)
    until(js, "document.querySelector('.dclib-forming').dataset.shown === '0'")
    assert js("document.querySelectorAll('.dclib-forming canvas').length") == 2
    first, words = settled(js), js(SAID)
    pictures = "document.querySelectorAll('.forming-clusters')[0].innerHTML"
    shown = js(pictures)
    js("document.querySelector('.dclib-forming input[type=range]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", session, type=kind, key="ArrowRight", windowsVirtualKeyCode=39)
    until(js, "document.querySelector('.dclib-forming').dataset.shown === '1'")
    second = settled(js)
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert js(SAID) != words
    assert f"{round(100 * found[0].changed[1])} % of all images changed" in js(SAID)[0]
    assert js(pictures) != shown
    assert js("document.querySelector('.dclib-forming output').textContent") == "after epoch 1"
    # to the end: the second network has one clustering less, and stays at its last
    js("(s => { s.value = 3; s.dispatchEvent(new Event('input')); })(document.querySelector('input[type=range]'))")
    assert js(SAID)[1].startswith("After epoch 2")
    # one cluster alone, other colours, another network
    last = settled(js)
    js("document.querySelector('.forming-cluster button').click()")
    assert js("document.querySelector('.forming-cluster button').getAttribute('aria-pressed')") == "true"
    alone = settled(js)
    assert alone[0] != last[0]
    assert alone[1] == last[1]
    # in their own colours, dots that stay where they are would look the same after another clustering
    js("document.querySelector('.forming-controls input[type=checkbox]').click()")
    own = settled(js)
    assert own[1] != last[1]
    js("(s => { s.value = 1; s.dispatchEvent(new Event('input')); })(document.querySelector('input[type=range]'))")
    assert all(one != other for one, other in zip(settled(js), own, strict=True))
    js("(s => { s.value = 1; s.dispatchEvent(new Event('change')); })(document.querySelector('.forming-panel select'))")
    maps = settled(js)
    assert maps[0] == maps[1]
    # playing begins anew from the end, and can be stopped
    js("(s => { s.value = 3; s.dispatchEvent(new Event('input')); })(document.querySelector('input[type=range]'))")
    js("document.querySelector('.forming-controls button').click()")
    assert js("document.querySelector('.dclib-forming').dataset.shown") == "0"
    assert "Pause" in js("document.querySelector('.forming-controls button').textContent")
    js("document.querySelector('.forming-controls button').click()")
    assert "Play" in js("document.querySelector('.forming-controls button').textContent")
    still = {"wide": 0, "formulas": 0, "typeset": 0, "errors": 0}
    assert problems(still, browser.events) == []
    browser.call("Target.closeTarget", targetId=target)


@needs_browser
def test_who_wants_no_motion_sees_the_dots_jump_and_a_phone_scrolls_down_only(browser, site):
    target, session = open_page(browser, site.as_uri(), "phone-dark")
    js = reader(browser, session)
    features = [
        {"name": "prefers-reduced-motion", "value": "reduce"},
        {"name": "prefers-color-scheme", "value": VIEWS["phone-dark"][2]},
    ]
    browser.call("Emulation.setEmulatedMedia", session, features=features)
    until(js, "document.querySelector('.dclib-forming').dataset.shown === '0'")
    light = settled(js)
    frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    js("(s => { s.value = 2; s.dispatchEvent(new Event('input')); })(document.querySelector('input[type=range]'))")
    js(frame)
    at_once = js(MAPS)
    time.sleep(0.3)
    assert js(MAPS) == at_once
    assert at_once != light
    js("document.documentElement.dataset.theme = 'dark'")
    assert settled(js) != at_once
    assert js("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    browser.call("Target.closeTarget", targetId=target)


@needs_browser
def test_without_scripts_and_on_paper_the_figure_is_there(browser, site):
    shown = "(f => f.checkVisibility() && f.offsetHeight > 50)(document.querySelector('.dclib-forming figure img'))"
    target, session = open_page(browser, site.as_uri(), "desktop")
    js = reader(browser, session)
    until(js, "document.querySelector('.dclib-forming').dataset.shown === '0'")
    assert not js(shown)
    js("dispatchEvent(new Event('beforeprint'))")
    assert js(shown)
    browser.call("Emulation.setScriptExecutionDisabled", session, value=True)
    browser.events.clear()
    browser.call("Page.reload", session)
    browser.wait_for("Page.loadEventFired")
    assert js("document.querySelectorAll('.dclib-forming canvas').length") == 0
    assert js(shown)
    browser.call("Target.closeTarget", targetId=target)
