"""What one should have seen: the lines follow from the records, and turn when these do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from notebook_cells import NOTEBOOKS
from synthetic_records import make_card, make_probes, make_training

from dclib.data.images import ImageSet
from dclib.presets import parse_preset
from dclib.press.notebooks import code_of, read_notebook
from dclib.press.stages import ALONE
from dclib.records import Record
from dclib.report import endings, exhibits, findings, judge, seen
from dclib.report.judge import Judged
from dclib.report.margins import Values

PRESET = parse_preset("made-up", {"seeds": [0], "methods": {"rotnet": None}})
RISING, FALLING = [float(20 + 4 * n) for n in range(13)], [float(60 - 2 * n) for n in range(13)]


@pytest.fixture(autouse=True)
def without_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "load_records", lambda preset: [])
    monkeypatch.setattr(findings, "load_published", lambda preset, here, all_methods: [])


def lines(page: str, records: Sequence[Record], **more: str) -> list[str]:
    text = endings.to_have_seen(page, PRESET, records, **more).text
    return [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]


def measured(stage: str, name: str, values: Mapping[str, float], keys: Mapping[str, str | int]) -> list[Record]:
    """One value of each network in three seeds, apart by a hundredth."""
    return [
        Record(name=name, value=v + 0.01 * s, unit="%", n=9, keys=keys, card=make_card(m, s, stage))
        for m, v in values.items()
        for s in range(3)
    ]


def test_every_page_with_results_ends_with_what_was_to_be_seen() -> None:
    pages = [p for p in sorted(NOTEBOOKS.glob("*.ipynb")) if p.stem not in ALONE and "_exercises_" not in p.stem]
    called = set()
    for path in pages:
        notebook = read_notebook(path)
        ids = [cell.id for cell in notebook.cells]
        assert notebook.cells[ids.index("seen") - 1].source == "## What you should have seen", path.stem
        assert len(ids) - ids.index("seen") <= 6, f"{path.stem}: near the end"
        called |= set(re.findall(r'endings\.to_have_seen\(\s*"(\w+)"', code_of(notebook)))
    assert called == set(endings.PAGES)


def test_depths_are_told_by_the_curves() -> None:
    good = lines("linear_probes", make_probes({"deepercluster": RISING, "rotnet": FALLING}))
    assert good[0] == "Best layer on objects: conv13 for DeeperCluster (68.0 %) and conv1 for RotNet (60.0 %)."
    assert good[1] == "From there to conv13 accuracy falls: RotNet by 24.0 points."
    assert good[2] == "conv13, objects, DeeperCluster over RotNet: +32.0 ± 0.0 points, in each of 3 seeds."
    turned = lines("linear_probes", make_probes({"deepercluster": FALLING, "rotnet": RISING}))
    assert "conv13 for RotNet" in turned[0]
    assert "over RotNet: −32.0" in turned[2]


def test_a_run_has_lines_of_its_own_and_those_of_published_seeds_are_folded() -> None:
    run = make_probes({"deepercluster": FALLING, "rotnet": RISING}, seeds=(0,))
    published = make_probes({"deepercluster": RISING, "rotnet": FALLING})
    own, folded, *made_by = endings.to_have_seen("linear_probes", PRESET, run, published).html.split("<details")
    assert len(made_by) == 2  # of the run's records, and of those published
    assert "By this run:" in own
    assert "over RotNet: −32.0 points, in one seed" in own
    assert "The same by 3 published seeds" in folded
    assert "over RotNet: +32.0 ± 0.0 points, in each of 3 seeds" in folded


def test_a_lead_is_sure_in_each_of_several_seeds_and_never_in_one() -> None:
    (found,) = seen.compared("A", "B", "Here", Values({0: 3.0, 1: 4.0, 2: 5.0}))
    assert found == "Here, A over B: +4.0 ± 1.0 points, in each of 3 seeds."
    (found,) = seen.compared("A", "B", "Here", Values({0: -3.0, 1: 4.0, 2: 5.0}))
    assert found.endswith("which luck may explain.")
    (found,) = seen.compared("A", "B", "Here", Values({0: 4.0}))
    assert found == "Here, A over B: +4.0 points, in one seed, which cannot tell it from luck."
    assert list(seen.compared("A", "B", "Here", None)) == []


def test_a_training_is_told_by_its_loss_its_clusters_and_their_sizes() -> None:
    well = lines("pretraining", make_training("deepcluster", 0, nmi=(0.2, 0.3, 0.5)), method="deepcluster")
    assert well[0] == "The loss ended at 21 % of what a guess gives (1.00 nats; a guess: 4.85)."
    assert "rose, from 0.20 to 0.50" in well[1]
    assert well[2].endswith("so that nothing collapsed.")
    ill = make_training("deepcluster", 0, nmi=(0.5, 0.2), losses=(4.85, 4.85), n=1000)
    said = lines("pretraining", ill, method="deepcluster")
    assert "has not left chance" in said[0]
    assert "fell, from 0.50 to 0.20" in said[1]
    assert "which is a collapse" in said[2]


@pytest.mark.parametrize("sign", [1, -1])
def test_retrieval_and_sobel_turn_with_the_records(sign: int) -> None:
    cities = {"deepercluster": 50.0 + 5 * sign, "deepcluster": 50.0, "rotnet": 50.0 - 9 * sign}
    found = lines("retrieval", measured("retrieval", "retrieval_map", cities, {"dataset": "oxford"}))
    shown = "+" if sign > 0 else "−"
    assert [re.search(r": (.\d\.\d)", line)[1] for line in found] == [f"{shown}9.0", f"{shown}5.0"]  # type: ignore[index]
    tasks = {"deepercluster": 50.0 + 4 * sign, "deepercluster_rgb": 50.0, "rotnet": 50.0 + sign, "rotnet_rgb": 50.0}
    found = lines("voc", measured("voc", "voc_map", tasks, {"setting": "fc68", "split": "val"}))
    assert f"DeeperCluster's gain over RotNet's: {shown}3.0" in found[2]


def test_without_records_a_page_says_that_there_is_nothing() -> None:
    for page in endings.PAGES:
        assert lines(page, []) == [seen.NOTHING], page


def test_no_page_has_more_than_four_lines() -> None:
    records = make_probes(dict.fromkeys(("supervised", "deepercluster", "rotnet", "random"), RISING))
    assert 2 <= len(lines("linear_probes", records)) <= endings.MOST


def test_the_judge_is_told_by_its_ranks() -> None:
    rng = np.random.default_rng(0)

    def networks(order: int) -> list[Judged]:
        return [
            Judged(
                str(i),
                "rotnet",
                "pocket",
                "learned" if i > 5 else "still learning",
                False,
                {"score": order * i, "last": i},
            )
            for i in rng.permutation(12)
        ]

    assert "correlation of 1.00, more than chance" in judge.to_have_seen(networks(1)).text
    assert "correlation of -1.00, no more than chance" in judge.to_have_seen(networks(-1)).text
    assert judge.by_chance(12) < 1


def test_classes_and_gradients_are_told_by_what_is_there() -> None:
    def images(counts: Sequence[int]) -> ImageSet:
        labels = np.repeat(np.arange(len(counts)), counts)
        return ImageSet(
            name="x", ids=[str(i) for i in range(len(labels))], reader=None, labels=labels, classes=("a", "b")
        )  # type: ignore[arg-type]

    said = exhibits.classes_to_have_seen(images([9, 3]), images([5, 5])).text
    assert "pool are uneven: the largest has 3.0 times" in said
    assert "objects are even: the largest has 1.0 times" in said
