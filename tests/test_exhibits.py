"""Exhibits: a figure with its words where there is something to show, and a sentence where there is not."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from synthetic_records import make_probes, make_training

from dclib.config import DataConfig, Preset
from dclib.data.folders import open_folder
from dclib.data.yfcc import open_yfcc
from dclib.presets import parse_preset
from dclib.report import colour, exhibits, tables

DRAWN, REAL = DataConfig(), DataConfig(root="somewhere")


def picture_bytes(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 40), color).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twelve pictures in class folders."""
    for i in range(24):
        path = tmp_path / "set" / ("ant", "bee")[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_bytes((10 * i, 100, 200)))
    return tmp_path / "set"


def make_preset(root: str = "") -> Preset:
    data = {"root": root} if root else {}
    return parse_preset("mine", {"seeds": [0], "description": "Mine alone.", "data": data, "methods": {"rotnet": None}})


def make_pool(root: Path, identifiers: list[int]) -> Path:
    """A pool of photos 7 to 10 in YFCC100M's layout, its table's lines in the order of ``identifiers``."""
    (root / "00").mkdir(parents=True)
    with zipfile.ZipFile(root / "00" / "000.zip", "w") as archive:
        for number in (7, 8, 9, 10):
            archive.writestr(f"{number:03d}.jpg", picture_bytes((number, 0, 0)))
    lines = []
    for identifier in identifiers:
        fields = ["x"] * 23
        fields[0], fields[2], fields[5], fields[6] = (
            str(identifier),
            f"user{identifier}",
            "A+camera",
            f"title+{identifier}",
        )
        fields[3] = fields[4] = fields[10] = fields[11] = fields[12] = ""
        fields[8], fields[9], fields[22] = f"tag{identifier},<b>", "", "0"
        lines.append("\t".join(fields))
    (root / "yfcc100m_dataset.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(
    "exhibit", [exhibits.training_loss, exhibits.cluster_agreement, exhibits.cluster_sizes], ids=lambda f: f.__name__
)
def test_a_method_without_the_records_gets_a_sentence(exhibit) -> None:
    shown = exhibit(make_training("deepercluster", 0, (0.2, 0.3)), "random")
    assert "<img" not in shown.html
    assert shown.text.startswith("Random ")
    drawn = exhibit(make_training("deepercluster", 0, (0.2, 0.3)), "deepercluster")
    assert BeautifulSoup(drawn.html, "html.parser").img["alt"].strip()


def test_a_half_is_drawn_beside_the_papers_or_said_to_be_missing() -> None:
    records = make_probes({"rotnet": [50.0] * 13})
    images = BeautifulSoup(exhibits.accuracy_against_depth(records, "objects").html, "html.parser").find_all("img")
    assert ["here" in image["alt"] for image in images] == [True, False]
    assert "paper" in images[1]["alt"]
    assert exhibits.accuracy_against_depth(records, "scenes").text.startswith("No scenes half")


@pytest.mark.parametrize(
    ("shown", "stage"),
    [
        (lambda: exhibits.accuracy_against_depth(make_probes({"rotnet": [50.0] * 13}), "objects"), "linear_probe"),
        (lambda: tables.probe_table(make_probes({"rotnet": [50.0] * 13})), "linear_probe"),
        (lambda: exhibits.training_loss(make_training("deepercluster", 0), "deepercluster"), "pretrain"),
        (
            lambda: exhibits.cluster_agreement(make_training("deepercluster", 0, (0.2, 0.3)), "deepercluster"),
            "pretrain",
        ),
        (lambda: exhibits.cluster_sizes(make_training("deepercluster", 0, (0.2, 0.3)), "deepercluster"), "pretrain"),
        (lambda: tables.clustering_table(make_training("deepercluster", 0, (0.2, 0.3))), "pretrain"),
        (lambda: tables.run_table(make_training("deepercluster", 0)), "pretrain"),
    ],
)
def test_under_every_exhibit_stands_where_it_comes_from(shown, stage: str) -> None:
    soup = BeautifulSoup(shown()._repr_html_(), "html.parser")
    (strip,) = soup.select("details.dclib-provenance")
    assert [a["href"] for a in strip.select("a")] == [f"../data/{stage}.{suffix}" for suffix in ("json", "csv")]


def test_table_1_refers_to_the_deviations_that_bear_on_it() -> None:
    records = make_probes({"rotnet": [50.0] * 13})
    for shown in (tables.probe_table(records), exhibits.accuracy_against_depth(records, "objects")):
        links = BeautifulSoup(shown._repr_html_(), "html.parser").select('a[href^="../deviations.html#d"]')
        assert [a.text for a in links] == ["D15", "D16", "D24", "D25", "D26"]


def test_networks_are_sorted_by_what_they_see() -> None:
    methods = {"rotnet": None, "rotnet_rgb": {"method": "rotnet", "model": {"stem": "rgb"}}}
    text = exhibits.network_inputs(parse_preset("tiny", {"methods": methods})).text
    assert text.startswith("Networks that see image gradients: RotNet. Networks that see colours: RotNet, RGB. ")


def test_the_notice_says_whether_images_are_real() -> None:
    drawn, real = exhibits.data_notice(make_preset()).text, exhibits.data_notice(make_preset("somewhere")).text
    assert "drawn by rules" in drawn
    assert "not evidence" in drawn
    assert "real images" in real
    assert "drawn by rules" not in real


def test_a_contact_sheet_says_its_classes_and_its_size(folder: Path) -> None:
    images = open_folder(folder)
    shown = exhibits.contact_sheet(images, "labelled objects", REAL)
    assert "by class; 24 in all" in shown.text
    assert "by row: ant, bee." in shown.text
    mixed = exhibits.contact_sheet(images, "images", DRAWN, by_class=False)
    assert "Images (drawings), taken at random" in mixed.text
    assert "by row" not in mixed.text
    assert exhibits.contact_sheet(None, "labelled scenes", REAL).text == "This preset has no labelled scenes."


def test_classes_are_counted_where_there_are_any(folder: Path) -> None:
    images = open_folder(folder)
    assert "pool: 2 classes of 12 to 12 images" in exhibits.class_counts(images, None).text
    bare = open_folder(folder / "ant")
    assert exhibits.class_counts(bare, None).text == "No set of this preset has classes to count."


def test_photographs_are_matched_to_their_own_metadata(tmp_path: Path) -> None:
    """Lines come in no order, and one is about a photo that is not there."""
    pool = open_yfcc(make_pool(tmp_path / "pool", [9, 7, 123, 10, 8]))
    shown = exhibits.photographs(pool, REAL)
    soup = BeautifulSoup(shown.html, "html.parser")
    cards = {image["alt"]: image.parent.text for image in soup.find_all("img")}
    assert set(cards) == {f"Photograph: title {n}" for n in (7, 8, 9, 10)}
    assert all(
        f"by user{n}" in cards[f"Photograph: title {n}"] and f"#tag{n} #<b>" in cards[f"Photograph: title {n}"]
        for n in (7, 8, 9, 10)
    )
    assert "<b>" not in shown.html
    assert exhibits.credit_of(pool, (1, 0, 1), REAL) == "Photographs by user8 and user7."
    drawn = exhibits.photographs(pool, DRAWN)
    assert "Drawing: title 7" in drawn.html
    assert "invented user user7" in drawn.text
    assert "hotograph" not in drawn.html + exhibits.credit_of(pool, (0, 1), DRAWN)


def test_photographs_without_a_readable_picture_or_table_are_said(tmp_path: Path) -> None:
    root = make_pool(tmp_path / "pool", [7, 8])
    with zipfile.ZipFile(root / "00" / "000.zip", "w") as archive:
        for number in (7, 8):
            archive.writestr(f"{number:03d}.jpg", picture_bytes((7, 0, 0)) if number == 8 else b"no picture")
    assert "Crossed out, for 1 cannot be read: 00000007." in exhibits.photographs(open_yfcc(root), REAL).text
    (root / "yfcc100m_dataset.tsv").write_text("id,name\n1,2\n")
    assert "metadata cannot be used: 2 of 2 lines" in exhibits.photographs(open_yfcc(root), REAL).text
    assert exhibits.credit_of(open_yfcc(root), [0, 1], REAL) == ""


def test_a_pool_without_its_metadata_says_so(tmp_path: Path, folder: Path) -> None:
    assert "comes without metadata" in exhibits.photographs(open_folder(folder), REAL).text
    strangers = open_yfcc(make_pool(tmp_path / "pool", [123, 124]))
    assert exhibits.photographs(strangers, REAL).text.endswith("is about a photo of the pool.")


def test_other_sets_are_found_by_their_layout(tmp_path: Path, folder: Path) -> None:
    assert exhibits.other_sets(folder, REAL).text == "No multi-object or landmark set comes with these images."
    for place in ("VOC2007/JPEGImages", "landmarks/oxford/jpg"):
        (tmp_path / "world" / place).mkdir(parents=True)
        (tmp_path / "world" / place / "1.jpg").write_bytes(picture_bytes((1, 2, 3)))
    text = exhibits.other_sets(tmp_path / "world", REAL).text
    assert "Scenes with several objects: VOC2007, 1 images." in text
    assert "Landmarks: oxford, 1 images." in text
    text = exhibits.other_sets(tmp_path / "world", DRAWN).text
    assert "Scenes with several objects: drawn stand-in for VOC2007, 1 images." in text
    assert "in drawn stand-in for VOC2007" in text  # the words for who cannot see it
    assert "Landmarks: oxford (drawings), 1 images." in text


def test_mosaics_come_from_the_saved_clusters(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    images = open_folder(folder)
    assert exhibits.cluster_mosaics(make_preset(), "rotnet", images).text == "RotNet saved no clusters to look at."
    path = tmp_path / "mine" / "pictures" / "clusters-rotnet-s0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"clusters": [{"cluster": 3, "size": 12, "images": list(images.ids[:9])}]}))
    text = exhibits.cluster_mosaics(make_preset(), "rotnet", images).text
    assert "cluster 3 of 12 images, 9 of 9 ant" in text


def test_what_cannot_be_read_is_crossed_out_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every exhibit that shows pictures of a set, with some that are cut short or no images at all."""
    monkeypatch.setenv("DCLIB_RUNS", str(folder.parent))
    broken = ("ant/00.jpg", "bee/01.jpg")
    for name, content in zip(broken, (picture_bytes((0, 0, 0))[:200], b"<html>404</html>"), strict=True):
        (folder / name).write_bytes(content)
    images = open_folder(folder)
    clusters = [{"cluster": 3, "size": 24, "images": list(images.ids[:9])}]
    swatch = [{**clusters[0], "mean": [1, 2, 3], "spread": 4.0}]
    for kind, saved in (("clusters", clusters), ("colour", swatch)):
        path = folder.parent / "mine" / "pictures" / f"{kind}-rotnet-s0.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"clusters": saved}))
    sheets = [exhibits.contact_sheet(images, "things", REAL, n_rows=2, per_row=12, by_class=by) for by in (True, False)]
    assert all("Crossed out, for 2 cannot be read: " in sheet.text for sheet in sheets)
    assert all(name in sheet.text for sheet in sheets for name in broken)
    for show in (exhibits.cluster_mosaics, colour.uniform_clusters):
        assert "Crossed out, for 1 cannot be read: ant/00.jpg." in show(make_preset(), "rotnet", images).text
    assert "Image ant/02 in colour" in exhibits.network_input(images).text  # the next that can be read
    sound = exhibits.contact_sheet(images.subset([1, 2, 3]), "things", REAL)
    assert "Crossed out" not in sound.text
    for content in (b"", b"\xff\xd8\xff"):  # not one can be read
        for name in images.ids:
            (folder / name).write_bytes(content)
        assert "Crossed out, for 1 cannot be read" in exhibits.network_input(images).text


def test_the_network_input_is_shown_turned_and_as_gradients(folder: Path) -> None:
    shown = exhibits.network_input(open_folder(folder))
    alts = [image["alt"] for image in BeautifulSoup(shown.html, "html.parser").find_all("img")]
    assert len(alts) == 2
    assert "270 degrees counter-clockwise" in alts[0]
    assert np.all([len(alt) > 20 for alt in alts])


def test_the_words_of_turns_and_gradients_follow_the_picture(tmp_path: Path) -> None:
    """White on the left: to the bottom, right and top as it turns; one edge, which only the horizontal gradient has."""
    half = Image.new("RGB", (160, 160), "black")  # as large as it is shown: no resizing blurs the edge
    half.paste("white", (0, 0, 80, 160))
    for name, image in (("half", half), ("plain", Image.new("RGB", (40, 60), (10, 200, 30)))):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / f"{name}.png")
    images = open_folder(tmp_path)
    shown = [
        [image["alt"] for image in BeautifulSoup(exhibits.network_input(images, i).html, "html.parser").find_all("img")]
        for i in range(2)
    ]
    (turns, edges), (turns_of_plain, edges_of_plain) = shown
    assert "half, 160 by 160 pixels, mean colour red 128, green 128, blue 128" in turns
    assert turns.endswith("at the left, bottom, right and top.")
    assert "horizontal gradient from 0.00 to " in edges
    assert "vertical gradient from 0.00 to 0.00, strong edges on 0 % of it" in edges
    assert "40 by 60 pixels, mean colour red 10, green 200, blue 30" in turns_of_plain
    assert "horizontal gradient from 0.00 to 0.00, strong edges on 0 %" in edges_of_plain


def test_the_name_of_a_class_is_no_formula(folder: Path) -> None:
    (folder / "ant").rename(folder / r"$\x$")
    assert "<img" in exhibits.contact_sheet(open_folder(folder), "labelled objects", REAL).html
