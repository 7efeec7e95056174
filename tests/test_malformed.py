"""Whatever is thrown at a loader or a command ends in a result, a named skip, or one sentence that names the file."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from mdit_py_plugins.substitution import substitution_plugin
from PIL import Image

from dclib.__main__ import main
from dclib.analysis.hashtags import read_tags
from dclib.config import DataConfig
from dclib.data.decoding import LARGEST_FILE
from dclib.data.folders import TarReader
from dclib.data.images import UnreadableImageError
from dclib.data.landmarks import open_landmarks, read_ground_truth
from dclib.data.layouts import open_images
from dclib.data.metadata_table import import_metadata, table_facts
from dclib.data.pixels import load_pixels
from dclib.data.voc import open_voc
from dclib.data.yfcc_metadata import read_metadata
from dclib.reading import LARGEST_TEXT, load_array, read_text
from dclib.report.display import linked, say, show_photographs, without_markup
from dclib.train.checkpoints import load_checkpoint
from tests.malformed import ARCHIVES, GOOD, LISTS, Malformed, all_malformed, malformed_words

LONGEST = 800  # characters of a sentence, paths included
CASES = all_malformed()
WORDS = list(malformed_words())


# --- doors: each takes the folder of the files, and gives what can be compared


def look(folder: Path) -> object:
    """The odd picture, opened in all the ways there are."""
    images = open_images(folder / "set")
    (odd,) = (i for i, name in enumerate(images.ids) if name.startswith("odd"))
    sizes = images[odd].size, images.open(odd, draft=16).size
    seen = [load_pixels(images, DataConfig(resize=32, memory_gb=gb), 32) for gb in (1.0, 0.0)]
    assert all(pixels.unreadable == () for pixels in seen)
    for pixels in seen:
        assert next(pixels.centre_batches(2)).shape == (2, 3, 32, 32)
    return sizes


def opened(folder: Path, name: str = "") -> object:
    """Every image of a set."""
    images = open_images(folder / name)
    labels = None if images.labels is None else images.labels.tolist()
    return list(images.ids), labels, images.classes, [images[i].size for i in range(len(images))]


def voc(folder: Path) -> object:
    found = open_voc(folder, "val")
    return list(found.images.ids), found.labels.tolist(), found.classes


def imported(folder: Path) -> object:
    (source,) = folder.glob("yfcc100m_dataset*")
    return table_facts(import_metadata(source, folder / "table", processes=1)).n_lines


def tables(folder: Path) -> object:
    (source,) = folder.glob("yfcc100m_dataset*")
    return read_metadata(source).photos


def checkpoint(folder: Path) -> object:
    found = load_checkpoint(folder / "checkpoint.pt", "x")
    return None if found is None else found["epoch"]


DOORS: dict[str, Callable[[Path], object]] = {
    "picture": look,
    "photos": opened,
    "shards": opened,
    "shards by number": opened,
    "classes": opened,
    "split": voc,
    "labels": voc,
    "query": lambda folder: open_landmarks(folder)[1],
    "answers": lambda folder: open_landmarks(folder)[1],
    "pickle": lambda folder: read_ground_truth(folder / "gnd_x.pkl"),
    "list": partial(opened, name="list.txt"),
    "sheet": partial(opened, name="list.csv"),
    "tar": partial(opened, name="set.tar"),
    "tar.gz": partial(opened, name="set.tar.gz"),
    "metadata": tables,
    "import": imported,
    "tags": lambda folder: read_tags(folder / "tags.json"),
    "tag table": lambda folder: read_tags(next(folder.glob("labels.csv*"))),
    "checkpoint": checkpoint,
}
COMMANDS = {
    "score": ("score", "{folder}/truth", "{folder}/queries.npy", "{folder}/images.npy"),
    "weights": ("released", "{folder}/weights.pt"),
    "preset": ("presets", "{folder}/own.yaml"),
}


def write(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pass_through(case: Malformed, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, object]:
    """What comes out ("result", "skip", "sentence"), and the result or the words."""
    if case.door in COMMANDS:
        status = main([argument.format(folder=folder) for argument in COMMANDS[case.door]])
        said = capsys.readouterr()
        assert said.err.count("\n") == (status != 0), said.err
        return ("sentence", said.err.strip()) if status else ("result", said.out)
    try:
        return "result", DOORS[case.door](folder)
    except UnreadableImageError as error:
        return "skip", str(error)
    except (ValueError, OSError) as error:
        return "sentence", str(error)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.door}: {case.name}".replace("/", " "))
def test_what_comes_out_is_a_result_a_named_skip_or_one_sentence(case, tmp_path, capsys):
    came, what = pass_through(case, write(case.files, tmp_path), capsys)
    assert came in ((case.expected,) if case.expected else ("result", "skip", "sentence")), what
    if came == "result":
        if case.expected and case.door in LISTS and not case.name.startswith("empty"):
            base, _ = LISTS[case.door]
            plain = tmp_path / "plain"
            assert what == pass_through(case, write(base, plain), capsys)[1]
        return
    assert "\n" not in str(what)
    assert len(str(what)) < LONGEST
    assert re.search(r"at 0x[0-9a-f]", str(what)) is None  # an address in memory tells nobody anything
    blamed = os.path.basename(case.blamed)
    if came == "skip" and case.kind == "archives":  # named by the image, not by what it is packed in
        blamed = "image '"
    assert blamed in str(what)


def test_the_corpus_is_large_and_the_same_every_time():
    assert len(CASES) >= 200
    assert [case.files for case in all_malformed()] == [case.files for case in CASES]
    assert len({(case.door, case.name) for case in CASES}) == len(CASES)
    assert {case.door for case in CASES} == DOORS.keys() | COMMANDS.keys()
    assert set(Counter(case.kind for case in CASES)) == {
        *("cut and damaged images", "suffixes", "depth and colour", "size and memory", "no images"),
        *("texts", "settings", "archives"),
    }
    assert set(LISTS) | set(ARCHIVES) <= DOORS.keys() | COMMANDS.keys()


def test_a_file_too_large_for_memory_is_not_read(tmp_path):
    write({"set/whole.png": GOOD, "set/odd.png": GOOD}, tmp_path)
    os.truncate(tmp_path / "set/odd.png", LARGEST_FILE + 1)  # it takes no room: nothing is written there
    images = open_images(tmp_path / "set")
    with pytest.raises(UnreadableImageError, match=r"odd\.png.* 1,073,741,825 bytes, .*make it smaller"):
        images[0]
    archive = TarReader(tmp_path / "none.tar", {"odd.png": (0, LARGEST_FILE + 1)})
    with pytest.raises(ValueError, match="make it smaller"):
        archive.read("odd.png")


def test_no_memory_is_asked_for_by_an_array_that_is_not_there(tmp_path):
    """A head of a hundred bytes may declare any size."""
    path = tmp_path / "numbers.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**9,)})
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"it is cut short: .* has 8,000,000,000 bytes, here are 0; save it anew"):
        load_array(path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_a_text_too_large_for_memory_is_not_read(tmp_path):
    path = tmp_path / "list.txt"
    path.touch()
    os.truncate(path, LARGEST_TEXT + 1)
    with pytest.raises(ValueError, match=r"need a text file, got .*list\.txt of 268,435,457 bytes; at most"):
        read_text(path)


# --- words on their way to a page


class Tags(HTMLParser):
    """What a browser would make of a piece of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.words += [value or "" for name, value in attrs if name == "alt"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("words", WORDS)
def test_words_are_words_in_html(words):
    picture = Image.new("RGB", (4, 4))
    card = show_photographs([(picture, words, [words, words])], kind="Drawing", caption=words)
    plain = show_photographs([(picture, "title", ["one", "two"])], kind="Drawing", caption="caption")
    found, expected = Tags(card.html), Tags(plain.html)
    assert (found.tags, found.attributes) == (expected.tags, expected.attributes)
    # a line break of a browser's kind is one of its own rules, nothing else is lost
    assert "".join(found.words).count(words) == 5
    paragraph = Tags(say(words).html)
    assert (paragraph.words, paragraph.tags) == ([words], ["p"])
    assert set(Tags(linked(words)).tags) <= {"a"}
    assert not hasattr(say(words), "_repr_markdown_")


@pytest.mark.parametrize("words", WORDS)
def test_words_are_words_in_myst_and_yaml(words):
    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).use(myst_role_plugin)
    reader.use(substitution_plugin)
    table = f"| a | b |\n|---|---|\n| {without_markup(words)} | end |\n\nPreset x. {without_markup(words)}"
    tokens = reader.parse(table)
    assert [token.type for token in tokens].count("td_open") == 2
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert kinds <= {"text", "text_special"}
    said = "".join(child.content for child in tokens[-2].children or ())
    assert said.split() == f"Preset x. {words}".replace("\0", "\ufffd").split()
    assert yaml.safe_load(yaml.safe_dump({words: [words]}, allow_unicode=True)) == {words: [words]}
