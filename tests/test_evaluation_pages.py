"""Tables, figures and words of the pages of Tables 2 to 4 and of the analyses, from planted records."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from notebook_cells import NOTEBOOKS
from PIL import Image
from synthetic_records import make_card
from tiny_images import write_pictures

from dclib.config import RECIPES, DataConfig
from dclib.data.layouts import open_images
from dclib.paper import TABLE3
from dclib.presets import parse_preset
from dclib.press.stages import ALONE
from dclib.records import DATA, Record, read_records, write_records
from dclib.report import colour, finetuning, gradients, hashtags, metadata, recipes, retrieval, voc
from dclib.report.display import Fragment, linked, pretraining_taken, say
from dclib.report.evidence import EVIDENCE
from dclib.report.finder import Finder
from dclib.report.names import names_in
from dclib.report.tables import Table, value_cell

SEEDS = (0, 1, 2)
DRAWN, REAL = DataConfig(), DataConfig(root="somewhere")


def record(stage: str, name: str, method: str, seed: int, value: float, n: int = 50, **keys: str | int) -> Record:
    return Record(name=name, value=value, unit="%", n=n, keys=keys, card=make_card(method, seed, stage))


def finetuned() -> list[Record]:
    """Scratch ends at 50, RotNet at 52, DeeperCluster at 56 and 54; a tenth more in each seed."""
    ends = {"random": (50, 50), "rotnet": (52, 52), "deepercluster": (56, 54)}
    return [
        record("finetune", "finetuned_top1", m, s, end * e / 3 + 0.1 * s, recipe=r, epoch=e)
        for m, pair in ends.items()
        for r, end in zip(("pytorch_doc", "ours"), pair, strict=True)
        for s in SEEDS
        for e in (1, 2, 3)
    ]


def retrieved() -> list[Record]:
    values = {"supervised": 60, "random": 5, "rotnet": 30, "deepcluster": 45, "deepercluster": 44, "rotnet_rgb": 33}
    return [
        record("retrieval", "retrieval_map", m, s, v + (10 if c == "paris" else 0) + s, dataset=c)
        for m, v in values.items()
        for s in SEEDS
        for c in ("oxford", "paris")
    ]


def classified() -> list[Record]:
    values = {"rotnet": 40, "rotnet_rgb": 39, "deepercluster": 50, "deepercluster_rgb": 42, "random": 10}
    found = []
    for m, v in values.items():
        for s in SEEDS:
            keys = {"setting": "fc68", "split": "test"}
            found.append(record("voc", "voc_map", m, s, v + s, 400, **keys))
            found.append(record("voc", "voc_map", m, s, v - 7 + 2 * s, 200, setting="fc68", split="val"))
            found.append(record("voc", "voc_ap", m, s, 1.0, 3, setting="fc68", split="val", **{"class": "cat"}))
            for i, name in enumerate(("cat", "<script>alert(1)</script>")):
                found.append(record("voc", "voc_ap", m, s, v + 10 * i, 7, **keys, **{"class": name}))
    return found


def cells(table: Table, label: str) -> list[str]:
    (row,) = [row for group in table.groups for row in group.rows if row.label == label]
    return [f"{cell.text} {cell.small}".strip() for cell in row.cells]


# Table 2


def test_table_2_shows_the_last_epoch_beside_the_papers() -> None:
    table = finetuning.finetuning_table(finetuned())
    assert cells(table, "Supervised, from DeeperCluster") == ["56.1 ± 0.1", "54.1 ± 0.1"]
    assert cells(table, "Supervised, from scratch") == ["50.1 ± 0.1", "50.1 ± 0.1"]
    assert cells(table, "paper: Supervised + DeeperCluster pre-training") == ["74.3", "74.9"]
    assert cells(table, "Supervised (PyTorch documentation)") == ["73.4", "–"]
    assert "50 test images" in table.caption


def test_leads_are_taken_seed_by_seed_and_their_change_is_shown() -> None:
    table = finetuning.lead_table(finetuned())
    assert cells(table, "DeeperCluster") == ["6.0 ± 0.0", "4.0 ± 0.0", "-2.0 ± 0.0"]
    (row,) = [r for g in table.groups for i, r in enumerate(g.rows) if i == 3]
    assert [c.text for c in row.cells] == ["1.0", "0.8", "-0.2"]
    assert [c.text for c in table.groups[0].rows[1].cells] == ["0.4", "0.4", "0.0"]  # RotNet's: no sign before a zero
    assert value_cell([-0.02, 0.01]).text == "0.0"


def test_curves_of_fine_tuning_are_described_by_their_ends() -> None:
    text = finetuning.describe_accuracy(finetuned(), "ours")
    assert "from DeeperCluster 18.1 % after epoch 1 and 54.1 % after 3, mean of 3 seeds" in text
    assert "DeeperCluster 2.0 points after epoch 1 and 6.0 points after 3" in finetuning.describe_lead(
        finetuned(), "pytorch_doc"
    )


def shared() -> list[Record]:
    """The same as of 10 % of the labels; 30 points less with 2 %, 20 more with all of them."""
    notes = {"2 %": ("1,000 (2 %)", 20), "10 %": ("5,000 (10 %)", 4), "100 %": ("50,000 (100 %)", 1)}
    return [
        replace(
            r,
            name="finetuned_top1" if share == "10 %" else "share_top1",
            value=r.value + more,
            keys={**r.keys, "share": share},
            card=replace(r.card, notes=dict(zip(("labels", "passes"), notes[share], strict=True))),
        )
        for share, more in (("100 %", 20), ("2 %", -30), ("10 %", 0))
        for r in finetuned()
    ]


def test_every_share_of_the_labels_has_its_rows_from_few_to_many() -> None:
    table = finetuning.shares_table(shared())
    labels = [row.label for row in table.groups[0].rows]
    assert [label.split(",")[0] for label in labels] == ["2 %"] * 3 + ["10 %"] * 3 + ["100 %"] * 3
    assert cells(table, "2 %, from DeeperCluster") == ["26.1 ± 0.1", "24.1 ± 0.1"]
    assert cells(table, "10 %, from scratch") == ["50.1 ± 0.1", "50.1 ± 0.1"]
    assert cells(table, "100 %, from RotNet") == ["72.1 ± 0.1", "72.1 ± 0.1"]
    assert "1,000 (2 %): 20, 5,000 (10 %): 4, 50,000 (100 %): 1" in table.notes[0]
    assert "middle share (10 % of the labels)" in table.notes[0]
    assert "finetune.shares" in finetuning.shares_table(finetuned())._repr_markdown_()


def test_table_2_its_leads_and_curves_and_the_claims_are_about_the_judged_share() -> None:
    """Claims judge the same as of a run of that share alone, and their sources are no others."""
    mixed, alone = shared(), [r for r in shared() if r.keys["share"] == "10 %"]
    for table in (finetuning.finetuning_table, finetuning.lead_table):
        assert table(mixed).groups == table(finetuned()).groups
        assert "(10 % of the labels)" in table(mixed).caption
        assert "of the labels" not in table(finetuned()).caption
    assert finetuning.describe_lead(mixed, "ours") == finetuning.describe_lead(finetuned(), "ours")
    assert "(10 % of the labels)" in finetuning.accuracy_per_epoch(mixed).text
    for claim in ("C5", "C6", "C14", "C15", "C20", "C21"):
        assert EVIDENCE[claim](Finder(mixed)) == EVIDENCE[claim](Finder(alone))
        assert EVIDENCE[claim](Finder(mixed)) == EVIDENCE[claim](Finder(finetuned()))
        assert any(check.margins for check in EVIDENCE[claim](Finder(mixed)).checks)


# Table 3


def test_table_3_has_every_row_of_the_paper_and_ours_below() -> None:
    table = retrieval.retrieval_table(retrieved(), REAL)
    labels = [row.label for group in table.groups for row in group.rows]
    assert [label.removeprefix("paper: ") for label in labels if label.startswith("paper: ")] == [
        f"{name} ({images})" for name, images in TABLE3
    ]
    assert labels[labels.index("paper: Wang et al. (Youtube 9M)") - 1] == "Transitive invariance"
    assert cells(table, "Context prediction") == ["not run", "–"]
    assert cells(table, "DeepCluster") == ["46.0 ± 1.0", "56.0 ± 1.0"]
    assert cells(table, "DeepCluster, curated") == ["not run", "–"]
    assert cells(table, "paper: DeeperCluster (YFCC100M)") == ["55.8", "73.4"]
    assert labels[-1] == "RotNet, RGB"


def test_bars_of_retrieval_are_described_beside_the_papers() -> None:
    text = retrieval.describe_bars(retrieved(), "paris", names_in(REAL))
    assert "Random 16.0 (paper 22.0)" in text
    assert "RotNet, curated not measured (paper 61.1)" in text


def test_rankings_are_framed_by_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "world"
    for city in ("oxford5k", "paris6k"):
        write_pictures(root / city / "jpg", 4, flat=True)
        truth = root / city / "groundtruth"
        truth.mkdir()
        for kind, text in (("query", "000 1 1 20 20"), ("good", "000\n001"), ("ok", ""), ("junk", "002")):
            (truth / f"hall_1_{kind}.txt").write_text(text)
    preset = parse_preset("tiny", {"methods": {"rotnet": None}, "data": {"root": str(root)}})
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    results = [{"name": f"00{i}", "kind": k} for i, k in enumerate(("right", "right", "junk", "wrong"))]
    ranking = {"query": "hall_1", "image": "000", "box": [1, 1, 20, 20], "average_precision": 100.0, "results": results}
    path = tmp_path / "runs" / "tiny" / "pictures" / "retrieval-rotnet-s0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"oxford": [ranking], "paris": [ranking]}))
    html = retrieval.neighbours(preset, root, "rotnet").html
    assert html.count("<img") == 2
    assert "query hall_1, average precision 100 %: right, right, junk, wrong" in html
    assert "no rankings" in retrieval.neighbours(preset, root, "deepcluster").text


# Table 4


def test_table_4_shows_colour_gradients_and_the_gain() -> None:
    table = voc.sobel_table(classified(), REAL)
    on_val, on_test, everything_trained = (group.rows for group in table.groups)
    assert [cell.text for cell in on_val[2].cells] == ["37.0", "45.0", "8.0"]  # DeeperCluster
    assert [cell.text for cell in on_val[3].cells] == ["71.6", "76.1", "4.5"]
    assert [cell.text for cell in on_test[1].cells] == ["43.0", "51.0", "8.0"]
    assert [row.paper for row in (*on_val, *on_test)] == [False, True, False, True, False, False]  # like with like
    assert everything_trained[0].cells[0].text == "–"  # was not run
    assert [group.title for group in table.groups] == [
        "FC68: convolutions frozen, train to val, 200 images",
        "FC68: convolutions frozen, trainval to test, 400 images",
        "ALL: everything trained, trainval to test",
    ]


def test_classes_are_those_of_the_test_split() -> None:
    rows = voc.class_table(classified()).groups[0].rows
    assert rows[1].label == "cat"
    assert [cell.text for cell in rows[1].cells][:2] == ["7", "50.0"]  # not 3 images, nor a precision of 1


def test_settings_are_written_as_the_paper_writes_them() -> None:
    heads = voc.every_network(classified()).columns
    assert heads == ("Network", "FC68, train to val", "FC68, trainval to test", "ALL, trainval to test")


def test_names_of_classes_are_text() -> None:
    shown = voc.class_table(classified())._repr_html_() + voc.class_bars(classified()).html
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_classes_left_out_are_named() -> None:
    card = make_card("rotnet", 0, "voc", notes={"classes_left_out": "bird, sheep"})
    records = [Record(name="voc_map", value=1.0, unit="%", n=2, keys={"setting": "fc68", "split": "test"}, card=card)]
    assert voc.left_out_sentence(records) == "No test image shows bird, sheep: left out of the mean."
    assert voc.left_out_sentence(classified()) == "No class is left out."


# section 5


def test_the_table_of_recipes_is_the_configurations() -> None:
    table = recipes.recipe_table()
    assert cells(table, "deepercluster_yfcc100m") == [
        *("3,072", "0.1", "1e-05", "0.5", "sobel", "4,096", "4", "320,000"),
        "3 epochs",
    ]
    assert cells(table, "rotnet_imagenet")[-4:] == ["none"] * 4


def test_two_recipes_differ_where_their_settings_do() -> None:
    same = recipes.differences(RECIPES["rotnet_yfcc100m"], RECIPES["rotnet_imagenet"])
    assert same == []
    rows = recipes.differences(RECIPES["deepercluster_yfcc1m"], RECIPES["deepercluster_imagenet"])
    assert {key: (a, b) for key, a, b in rows} == {
        "cluster.pca_dim": ("256", "4096"),
        "cluster.reassign_every": ("2", "5"),
        "train.batch_size": ("256", "748"),
        "train.lr": ("0.05", "0.1"),
    }
    html = recipes.recipe_differences().html
    assert html.count("<details>") == 15  # any two of six


def test_the_best_of_what_was_tried_is_marked() -> None:
    preset = parse_preset(
        "tiny", {"methods": {"rotnet": None}, "choice": {"method": "rotnet", "values": [0.1, 0.5], "epochs": 1}}
    )
    tried = [
        record("choice", "choice_map", "rotnet", s, v + s, key="train.lr", tried=t, split="val")
        for s in SEEDS
        for t, v in (("0.1", 30.0), ("0.5", 20.0))
    ]
    table = recipes.choice_table(preset, tried)
    assert cells(table, "0.1") == ["31.0 ± 1.0", "best"]
    assert cells(table, "0.5") == ["21.0 ± 1.0", ""]
    assert "0.1: 31.0 %; 0.5: 21.0 %" in recipes.choice_figure(preset, tried).html


# figures


def counted() -> list[Record]:
    rows = [record("hashtags", "hashtag_images", DATA, 0, 1000 / r, rank=r, tag=f"t{r}") for r in (1, 10, 100)]
    rows += [record("hashtags", "label_images", DATA, 0, 30, rank=r, label=f"l{r}") for r in (1, 2, 4)]
    rows += [record("hashtags", "hashtag_gini", DATA, 0, 0.81, 400), record("hashtags", "label_gini", DATA, 0, 0.0)]
    for name, value in (("example_tag_images", 100), ("example_label_images", 30)):
        rows.append(record("hashtags", name, DATA, 0, value, word="<b>cat", tag_rank=10, label_rank=1))
    return rows


def test_figure_1_marks_a_word_on_both_curves() -> None:
    text = hashtags.describe_ranks(counted())
    assert text == (
        "Images by rank: 100 hashtags with 1,000 down to 10 images; 4 labels with 30 down to 30 images. "
        "Marked hashtags: <b>cat 100."
    )
    html = hashtags.rank_figure(counted(), REAL).html
    assert "<b>cat" not in html
    ax = hashtags.plot_ranks(counted())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    stars = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() == "*"]
    assert stars == [[10, 100], [1, 30]]
    assert cells(hashtags.word_table(counted()), "paper: guenon") == ["1,300", "226"]
    assert cells(hashtags.tail_table(counted(), REAL), "hashtags")[1] == "0.81"
    assert cells(hashtags.tail_table(counted(), REAL), "labels")[0] == "4"  # ranks, not points of the thinned curve


def coloured() -> list[Record]:
    found = []
    for method, low in (("deepercluster_rgb", 10.0), ("rotnet_rgb", 60.0)):
        for s in SEEDS:
            found += [
                record("colour", "colour_spread", method, s, low + i + s, 20, rank=i, cluster=i) for i in range(5)
            ]
            found += [
                record("colour", "colour_spread_chance", method, s, 80.0, 20, rank=i, cluster=i) for i in range(5)
            ]
            found.append(record("colour", "colour_spread_all", method, s, 81.0))
    return found


def test_figure_2_is_described_by_lowest_median_and_highest() -> None:
    text = colour.describe_spreads(coloured())
    assert "DeeperCluster, RGB from 11 over 13 to 15" in text
    assert cells(colour.spread_table(coloured()), "RotNet, RGB") == [
        "61.0 ± 1.0",
        "63.0 ± 1.0",
        "80.0 ± 0.0",
        "81.0 ± 0.0",
    ]


def test_a_swatch_has_the_mean_colour(tmp_path: Path) -> None:
    images = open_images(write_pictures(tmp_path / "pool", 9, flat=True))
    cluster = {"cluster": 3, "size": 12, "mean": [10.0, 200.0, 30.4], "spread": 7.0, "images": list(images.ids)}
    (panel,) = [ax for ax in colour.draw_swatches(images, [cluster]).axes if ax.images]
    assert panel.images[0].get_array()[0, 0].tolist() == [10, 200, 30]
    assert "red 10, green 200, blue 30, spread 7" in colour.describe_swatches([cluster])


class Seen:
    """Stands for what is found in one image."""

    gradients = np.zeros((2, 8, 8), dtype=np.float32)
    responses = np.ones((3, 8, 8), dtype=np.float32)
    filters = np.ones((3, 3, 5, 5), dtype=np.float32)
    chosen = (4, 1, 0)
    difference = 2.5e-7
    scale = 3.0


def test_figure_4_credits_photographers_and_states_the_difference() -> None:
    image = Image.new("RGB", (8, 8))
    html = gradients.gradient_pictures([image, image], [Seen(), Seen()], "Photographs by <i>ann and bob.").html
    assert "&lt;i&gt;ann and bob" in html
    assert "2.5e-07 at most, of responses up to 3.0" in gradients.response_pictures([Seen()]).html
    assert "3 filters of 5 by 5" in gradients.filter_pictures(Seen()).html


def test_the_words_of_figure_4_follow_what_was_seen() -> None:
    """One strong pixel in four, negative; filters that change along one direction only."""

    class Edge(Seen):
        gradients = np.zeros((2, 2, 2), dtype=np.float32)
        gradients[0, 0, 0] = -3
        responses = np.stack([np.full((2, 2), v, dtype=np.float32) for v in (-2, 0, 5)])
        filters = np.zeros((3, 3, 5, 5), dtype=np.float32)
        filters[0, :, :, 0], filters[1, :, 4, :] = -1.5, 2.5

    image = Image.new("RGB", (9, 7))
    html = gradients.gradient_pictures([image, image], [Edge(), Seen()], "").html
    assert "image 1, 9 by 7 pixels: horizontal gradient from -3.00 to 0.00, strong edges on 25 % of it" in html
    assert "image 2, 9 by 7 pixels: horizontal gradient from 0.00 to 0.00, strong edges on 0 %" in html
    said = gradients.response_pictures([Edge()]).html
    assert "image 1: filter 4 from -2.00 to -2.00, filter 1 from 0.00 to 0.00, filter 0 from 5.00 to 5.00" in said
    said = gradients.filter_pictures(Edge()).html
    assert "filter 4 from -1.50 to 0.00, changing most from left to right" in said
    assert "filter 1 from 0.00 to 2.50, changing most from top to bottom" in said


def agreed() -> list[Record]:
    return [
        record("metadata", name, "deepercluster", s, value + 0.01 * s, 90, field=f, labels=labels)
        for f in ("hashtag", "device")
        for s in SEEDS
        for name, value, labels in (
            ("metadata_nmi", 0.3, "real"),
            ("metadata_nmi", 0.1, "shuffled"),
            ("metadata_purity", 0.5, "real"),
            ("metadata_purity", 0.4, "shuffled"),
            ("metadata_ami", 0.2, "real"),
        )
    ]


def test_agreement_is_shown_beside_chance() -> None:
    table = metadata.agreement_table(agreed(), REAL)
    assert [c.text for c in table.groups[0].rows[0].cells] == ["0.310", "0.110", "0.510", "0.410", "0.210"]
    assert metadata.describe_agreement(agreed()).endswith("DeeperCluster: hashtags +0.200, cameras +0.200.")


def test_cluster_pages_credit_photographers_and_escape_what_they_wrote(tmp_path: Path, monkeypatch) -> None:
    images = open_images(write_pictures(tmp_path / "pool", 9, flat=True))
    preset = parse_preset("tiny", {"methods": {"deepercluster": None}, "data": {"root": "somewhere"}})
    drawn = parse_preset("tiny", {"methods": {"deepercluster": None}})
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "runs" / "tiny" / "pictures" / "metadata-deepercluster-s0.json"
    path.parent.mkdir(parents=True)
    cluster = {"field": "hashtag", "value": "<script>x</script>", "cluster": 2, "size": 30, "share": 0.5}
    cluster |= {"images": list(images.ids), "credits": ["ann", "<img src=x>", "", *"abcdef"]}
    path.write_text(json.dumps({"clusters": [cluster]}))
    html = metadata.cluster_pages(preset, "deepercluster", images, "hashtag").html
    assert "<script>" not in html
    assert "<img src=x>" not in html
    assert "ann, &lt;img src=x&gt;, unknown, a, b, c, d, e, f" in html
    assert "50 % of 30 images" in html
    assert "There is no cluster" in metadata.cluster_pages(preset, "deepercluster", images, "gps").text
    said = metadata.cluster_pages(drawn, "deepercluster", images, "hashtag").text
    assert "ann" not in said
    assert said.endswith("These are drawings; their users, cameras, places and hashtags are invented by rules.")


def test_a_drawn_set_is_named_a_stand_in_and_a_real_one_by_its_name() -> None:
    """The published rows are of the real sets in either case."""
    captions = {data: voc.sobel_table(classified(), data).caption for data in (DRAWN, REAL)}
    assert captions[REAL].startswith("Mean average precision on VOC2007, ")
    assert captions[DRAWN].startswith("Mean average precision on the drawn stand-in for VOC2007, ")
    assert retrieval.retrieval_table(retrieved(), REAL).columns[1:] == ("Oxford5K", "Paris6K")
    assert retrieval.retrieval_table(retrieved(), DRAWN).columns[1] == "Oxford5K (ours: drawn stand-in)"
    assert retrieval.describe_bars(retrieved(), "oxford", names_in(DRAWN)).startswith("Drawn stand-in for Oxford5K, ")
    assert hashtags.tail_table(counted(), DRAWN).caption == "How uneven: 400 drawings"
    own = DataConfig(metadata="yfcc100m_dataset.bz2")  # read by path: about photographs, whatever the pool is
    assert hashtags.tail_table(counted(), own).caption == "How uneven: 400 photographs"


def test_videos_are_said_to_be_left_out() -> None:
    card = make_card(DATA, 0, "hashtags", notes={"photographs": 99, "videos": 1, "malformed_lines": 0})
    rows = [dataclasses.replace(r, card=card) for r in counted()]
    for shown in (hashtags.rank_figure(rows, REAL).text, hashtags.tail_table(rows, REAL)._repr_markdown_()):
        assert "Videos are not counted: the table has 1 line about them." in shown


# every page


EMPTY_EXHIBITS = {
    "fine-tuning": lambda: finetuning.accuracy_per_epoch([]),
    "leads": lambda: finetuning.lead_per_epoch([]),
    "retrieval": lambda: retrieval.retrieval_bars([], REAL),
    "classes": lambda: voc.class_bars([]),
    "hashtags": lambda: hashtags.rank_figure([], REAL),
    "colour": lambda: colour.spread_figure([]),
    "metadata": lambda: metadata.agreement_bars([]),
}


@pytest.mark.parametrize("name", EMPTY_EXHIBITS)
def test_without_records_a_page_says_so(name: str) -> None:
    shown = EMPTY_EXHIBITS[name]()
    assert isinstance(shown, Fragment)
    assert "<img" not in shown.html
    assert shown.text.endswith((".", "table with data.metadata."))


@pytest.mark.parametrize(
    "table",
    [
        finetuning.finetuning_table,
        finetuning.lead_table,
        partial(retrieval.retrieval_table, data=DRAWN),
        partial(voc.sobel_table, data=DRAWN),
        voc.every_network,
        voc.class_table,
        hashtags.word_table,
        partial(hashtags.tail_table, data=DRAWN),
        colour.spread_table,
        partial(metadata.agreement_table, data=DRAWN),
    ],
    ids=lambda f: getattr(f, "func", f).__name__,
)
def test_tables_without_records_are_tables(table) -> None:
    assert table([])._repr_html_()
    assert table([])._repr_markdown_()


FIGURES = {
    "accuracy per epoch": lambda: finetuning.accuracy_per_epoch(finetuned()),
    "lead per epoch": lambda: finetuning.lead_per_epoch(finetuned()),
    "retrieval": lambda: retrieval.retrieval_bars(retrieved(), REAL),
    "regions": lambda: retrieval.region_grids(4, 6, [[(0, 0, 4), (0, 2, 4)], [(0, 0, 2)]]),
    "classes": lambda: voc.class_bars(classified()),
    "hashtags": lambda: hashtags.rank_figure(counted(), REAL),
    "colour": lambda: colour.spread_figure(coloured()),
    "metadata": lambda: metadata.agreement_bars(agreed()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_words_with_its_numbers(name: str) -> None:
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', FIGURES[name]().html)
    assert alts
    assert all(re.search(r"\d", alt) for alt in alts)


SCORED = {
    "table 2": lambda: finetuning.finetuning_table(finetuned()),
    "leads": lambda: finetuning.lead_table(finetuned()),
    "table 3": lambda: retrieval.retrieval_table(retrieved(), REAL),
    "table 4": lambda: voc.sobel_table(classified(), REAL),
    "all networks": lambda: voc.every_network(classified()),
    "per class": lambda: voc.class_table(classified()),
    "words": lambda: hashtags.word_table(counted()),
    "tails": lambda: hashtags.tail_table(counted(), REAL),
    "spreads": lambda: colour.spread_table(coloured()),
    "agreement": lambda: metadata.agreement_table(agreed(), REAL),
}


@pytest.mark.parametrize("name", [*SCORED, *(n for n in FIGURES if n != "regions")])
def test_under_every_exhibit_stands_where_it_comes_from(name: str) -> None:
    """Preset, seeds, device, seconds, hashes of data and code, and both files of the stage behind it."""
    shown = {**SCORED, **FIGURES}[name]()
    soup = BeautifulSoup(shown._repr_html_(), "html.parser")
    (strip,) = soup.select("details.dclib-provenance")
    said = strip.get_text(" ")
    assert all(part in said for part in ("preset made-up", "seed", "cpu (2 threads)", "data", "code"))
    assert re.search(r"· \d[\d.]* (s|min|h)\b", said)
    stage = strip.dd.text
    assert [a["href"] for a in strip.select("a")] == [f"../data/{stage}.{suffix}" for suffix in ("json", "csv")]
    assert "preset made-up" in repr(shown)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("table 2", {27, 32, 39}),
        ("leads", {27, 32, 39}),
        ("accuracy per epoch", {27, 32, 39}),
        ("table 3", {28, 33, 37, 44, 45}),
        ("retrieval", {28, 33, 37}),
        ("recipes", {36, 38}),
        ("table 4", {29, 34}),
        ("hashtags", {15}),
        ("colour", {31}),
        ("metadata", {15, 31}),
        ("agreement", {15, 31}),
    ],
)
def test_an_exhibit_refers_to_the_deviations_that_bear_on_it(name: str, numbers: set[int]) -> None:
    html = {**SCORED, **FIGURES, "recipes": recipes.recipe_table}[name]()._repr_html_()
    assert set(map(int, re.findall(r'<a href="../deviations.html#d(\d+)"', html))) == numbers


def test_under_nothing_stands_no_strip() -> None:
    for shown in (
        finetuning.accuracy_per_epoch([]),
        retrieval.retrieval_table([], REAL),
        hashtags.rank_figure([], REAL),
    ):
        assert "dclib-provenance" not in shown._repr_html_()


@pytest.mark.parametrize("word", [r"$\x$", "$5 and $6", "a_b^c"])
def test_a_dollar_sign_in_a_word_is_no_formula(word: str) -> None:
    """Words come from data: they are drawn as they are, whatever TeX would make of them."""
    planted = [
        dataclasses.replace(r, keys={k: word if k in ("word", "class") else v for k, v in r.keys.items()})
        for r in counted()
    ]
    assert "<img" in hashtags.rank_figure(planted, REAL).html
    of_class = [r for r in classified() if r.keys.get("class", "cat") == "cat"]
    planted = [
        dataclasses.replace(r, keys={**r.keys, **({"class": word} if "class" in r.keys else {})}) for r in of_class
    ]
    assert "<img" in voc.class_bars(planted).html


# display


def test_names_of_deviations_become_links_and_nothing_else_does() -> None:
    assert linked("by NIKON D70 (D27, D9), (D1234), (D70) <b>") == (
        'by NIKON D70 (<a href="../deviations.html#d27">D27</a>, <a href="../deviations.html#d9">D9</a>), '
        "(D1234), (D70) &lt;b&gt;"
    )
    assert "href" not in say("Taken with a (D70).").html


def test_every_deviation_named_on_a_page_is_in_the_ledger() -> None:
    root = Path(__file__).resolve().parent.parent
    ledger = set(re.findall(r"\{#(D\d+)\}", (root / "book" / "deviations.md").read_text()))
    named = {
        name
        for path in [*root.glob("dclib/report/*.py"), *root.glob("dclib/press/*.py"), *root.glob("notebooks/*.ipynb")]
        for name in re.findall(r"\((D\d+(?:, D\d+)*)\)", path.read_text())
    }
    found = {one for group in named for one in group.split(", ")}
    assert found
    assert found <= ledger
    numbers = sorted(int(name[1:]) for name in ledger)
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_page_repeats_no_command_of_the_form_at_its_top() -> None:
    repeating = {path.stem for path in NOTEBOOKS.glob("*.ipynb") if "rerun_command(" in path.read_text()}
    assert repeating == {*ALONE}, "what makes no page has no form"


def test_the_pre_training_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the networks looked at, and of the one that one of them starts from; of no other method or seed."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    starts = {"rotnet": "", "deepercluster": "rotnet", "random": "", "deepcluster": ""}
    for seed in (0, 1):
        for place, (method, start) in enumerate(starts.items()):
            card = make_card(method, seed, "pretrain", seconds=1000.0 * 10**place + seed, config={"init": start})
            path = tmp_path / "made-up" / "records" / "pretrain" / f"{method}-s{seed}.json"
            write_records(path, card, [Record(name="loss", value=1.0, unit="nats", n=1, keys={"epoch": 1})])
    looked_at = [record("retrieval", "retrieval_map", "deepercluster", 0, 1.0, dataset="paris")]
    assert "took 11,000 s on cpu (2 threads)." in pretraining_taken(looked_at).text
    pretrained = read_records(tmp_path / "made-up")
    assert pretraining_taken([*pretrained, *looked_at]).text == ""
