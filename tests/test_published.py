"""Published seeds beside a run: the right rows, whose they are, and words that follow from the number of seeds."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from synthetic_records import make_card, make_curve, make_probes, make_training

from dclib.config import DataConfig
from dclib.presets import parse_preset
from dclib.records import Record, write_records
from dclib.report import colour, exhibits, finetuning, metadata, published, retrieval, scale, tables, voc
from dclib.report.published import load_published, panels, whose, with_published
from dclib.report.series import over_seeds

PRESET = parse_preset("made-up", {"seeds": [0], "methods": {"rotnet": None, "random": None}})
CURVES = {"rotnet": [40.0] * 13, "random": [20.0] * 13}


def publish(folder: Path, records: Sequence[Record]) -> None:
    """Write records as a project keeps the published ones of the preset."""

    def origin(record: Record) -> tuple[str, str, int]:
        assert record.card
        return (record.card.stage, record.card.method, record.card.seed)

    for (stage, method, seed), group in groupby(sorted(records, key=origin), key=origin):
        kept = list(group)
        path = folder / "results" / PRESET.name / "records" / stage / f"{method}-s{seed}.json"
        write_records(path, kept[0].card, [replace(r, card=None) for r in kept])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    return tmp_path


def of(name: str, method: str, seed: int, value: float, stage: str, **keys: str | int) -> Record:
    return Record(name=name, value=value, unit="%", n=9, keys=keys, card=make_card(method, seed, stage))


@pytest.mark.parametrize(
    ("seeds_of_each", "words"),
    [
        ({}, "no seed"),
        ({"rotnet": (4,)}, "one seed (4), without a deviation"),
        ({"rotnet": (0,), "random": (1,)}, "one seed of each network, without a deviation"),
        ({"rotnet": (0, 1, 2)}, "mean over 3 seeds (0, 1 and 2) with the sample standard deviation"),
        (
            {"rotnet": (0, 1), "random": (0,)},
            "mean over 1 to 2 seeds (0 and 1) with the sample standard deviation",
        ),
    ],
)
def test_how_values_are_averaged_follows_from_the_seeds(seeds_of_each, words: str) -> None:
    records = [r for m, seeds in seeds_of_each.items() for r in make_probes({m: [1.0] * 13}, seeds)]
    assert over_seeds(records) == words


def everything(seeds: Sequence[int]) -> list[Record]:
    """Records for every exhibit that averages over seeds."""
    found = make_probes(CURVES, seeds)
    for seed in seeds:
        found += make_training("deepercluster", seed, (0.2, 0.3))
        found += [of("retrieval_map", m, seed, 30.0 + seed, "retrieval", dataset="paris") for m in CURVES]
        for recipe in ("pytorch_doc", "ours"):
            for m in CURVES:
                keys = {"recipe": recipe, "epoch": 1}
                found.append(of("finetuned_top1", m, seed, 50.0 + seed, "finetune", **keys))
        found += [of("voc_map", m, seed, 9.0, "voc", setting="fc68", split="test") for m in CURVES]
        found.append(of("voc_ap", "rotnet", seed, 9.0, "voc", **{"setting": "fc68", "split": "test", "class": "cat"}))
        for labels in ("real", "shuffled"):
            for name in ("metadata_nmi", "metadata_ami", "metadata_purity"):
                found.append(of(name, "rotnet", seed, 0.1, "metadata", field="hashtag", labels=labels))
        found += [of("colour_spread", "rotnet", seed, 9.0 + i, "colour", rank=i) for i in range(3)]
        found += [of("colour_spread_chance", "rotnet", seed, 19.0, "colour", rank=i) for i in range(3)]
    return found


DRAWN = DataConfig()  # no folder given

EXHIBITS = {
    "table 1": tables.probe_table,
    "clusterings": tables.clustering_table,
    "runs": tables.run_table,
    "depth": lambda r: exhibits.accuracy_against_depth(r, "objects"),
    "sizes": lambda r: exhibits.cluster_sizes(r, "deepercluster"),
    "table 2": finetuning.finetuning_table,
    "leads": finetuning.lead_table,
    "table 3": lambda r: retrieval.retrieval_table(r, DRAWN),
    "bars": lambda r: retrieval.retrieval_bars(r, DRAWN),
    "table 4": lambda r: voc.sobel_table(r, DRAWN),
    "networks": voc.every_network,
    "classes": voc.class_bars,
    "colours": colour.spread_table,
    "metadata": lambda r: metadata.agreement_table(r, DRAWN),
    "agreement": metadata.agreement_bars,
}


@pytest.mark.parametrize("shown", EXHIBITS.values(), ids=EXHIBITS)
def test_no_caption_speaks_of_a_mean_where_there_is_one_seed(shown) -> None:
    one = " ".join(repr(shown(everything((0,)))).split())
    assert not re.search(r"mean over (?:\d+ )?seeds|(?<!without a )deviation (?:over|with|under)", one, re.IGNORECASE)
    assert "one seed (0)" in one
    assert "mean over 3 seeds (0, 1 and 2)" in repr(shown(everything((0, 1, 2))))


def test_no_caption_has_its_number_of_seeds_typed_in() -> None:
    """Every text of the gallery but the scorecard's rules, which are about several seeds; docstrings do not count."""
    typed = []
    for path in sorted((Path(published.__file__).parent).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        typed += [
            f"{path.name}: {text[:60]}"
            for text in texts
            if text not in docs and re.search(r"\bover seeds\b|mean over seeds", text, re.IGNORECASE)
        ]
    assert [line for line in typed if not line.startswith(("scorecard.py", "error_rates.py"))] == []


def test_published_rows_stand_under_those_of_the_run(project: Path) -> None:
    publish(project, make_probes({"rotnet": [60.0] * 13, "supervised": [90.0] * 13}))
    run = make_probes(CURVES, seeds=(0,))
    table = with_published(tables.probe_table, run, load_published(PRESET, run))
    rows = {row.label: row.cells[0] for row in table.groups[0].rows}
    assert list(rows) == ["RotNet", "RotNet, 3 published seeds", "RotNet, paper", "Random"]
    assert rows["RotNet"].text == "40.0"
    assert (rows["RotNet, 3 published seeds"].text, rows["RotNet, 3 published seeds"].small) == ("60.0", "± 0.0")
    assert "Published seeds: mean over 3 seeds (0, 1 and 2)" in table.notes[-1]


def test_published_records_stay_away_where_the_run_has_as_many_seeds(project: Path) -> None:
    assert load_published(PRESET, make_probes(CURVES, seeds=(0,))) == []  # none there
    publish(project, make_probes({"rotnet": [60.0] * 13}, seeds=(0, 1)))
    run = make_probes(CURVES, seeds=(0, 1))
    assert load_published(PRESET, run) == []
    assert with_published(tables.probe_table, run, []) == tables.probe_table(run)
    assert len(load_published(PRESET, make_probes(CURVES, seeds=(5,)))) == 26


@pytest.mark.parametrize(
    ("field", "what"), [("config_hash", "settings"), ("data_hash", "images"), ("code_hash", "code")]
)
def test_published_records_that_were_made_otherwise_say_so(field: str, what: str) -> None:
    run, kept = (make_curve("rotnet", s, [1.0] * 13) for s in (0, 1))
    assert "than this run" not in whose(kept, run)
    assert f"with other {what} than this run" in whose(
        [replace(r, card=replace(r.card, **{field: "other"})) for r in kept], run
    )


def test_the_panel_of_the_published_seeds_has_the_scale_of_the_run() -> None:
    run, kept = make_probes({"rotnet": [10.0] * 12 + [12.0]}, seeds=(0,)), make_probes({"rotnet": [70.0] * 13})
    drawn = exhibits.accuracy_against_depth(run, "objects", kept)
    images = BeautifulSoup(drawn.html, "html.parser").find_all("img")
    assert [image["alt"].split(".")[0] for image in images[:2]] == ["This run", "Published seeds"]
    assert "paper" in images[2]["alt"]
    from dclib.report.figures import describe_accuracy_against_depth, plot_accuracy_against_depth

    (here, _), (there, words) = panels(
        lambda r: plot_accuracy_against_depth(r, "objects"),
        lambda r: describe_accuracy_against_depth(r, "objects"),
        run,
        kept,
    )
    assert here.get_ylim() == there.get_ylim()
    assert here.get_ylim()[0] < 10 < 70 < here.get_ylim()[1]
    assert "this run" in here.get_title()
    assert "3 published seeds" in there.get_title()
    assert "70.0 % at conv1" in words


def test_a_sentence_that_stands_above_is_not_said_again(project: Path) -> None:
    curves = {"deepercluster": [50.0] * 13}
    publish(project, make_probes(curves, seeds=(0, 1, 2)))
    run = make_probes(curves, seeds=(0,))
    table = with_published(scale.scale_table, run, load_published(PRESET, run))
    said = {row.label: row.cells[-1].text for row in table.groups[0].rows}
    assert said["Table 1: probe of conv13, objects"].startswith("no: ")
    assert said["Table 1: probe of conv13, objects, 3 published seeds"] == "as above"
    assert list(said.values()).count("not measured") > 2  # which is as short as a word
