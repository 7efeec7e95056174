"""The page about speed: time by stage from run cards, ways side by side from records, and a sentence where none are."""

from dataclasses import replace

import pytest
from synthetic_records import make_card

from dclib.records import Record
from dclib.report import performance as page
from dclib.report.neighbours import neighbours_table
from dclib.report.performance import stage_seconds

CARD = replace(make_card("data", 0, stage="benchmark"), config={"width": 4096}, device="cpu (2 threads)")
WORK = "an update of 1,000 centroids"


def measured(name: str, value: float, unit: str, n: int = 5, **keys: str | int) -> Record:
    return Record(name=name, value=value, unit=unit, n=n, keys=keys, card=CARD)


def side_by_side(benchmark: str, work: str, medians: dict[str, float], times: dict[str, float]) -> list[Record]:
    keys = {"benchmark": benchmark, "work": work}
    return [
        *(
            measured("side_by_side", value * factor, "s", **keys, way=way, statistic=statistic)
            for way, value in medians.items()
            for statistic, factor in (("median", 1.0), ("lowest", 0.9), ("highest", 1.2))
        ),
        *(
            measured("times_as_good", value * factor, "1", **keys, way=way, statistic=statistic)
            for way, value in times.items()
            for statistic, factor in (("median", 1.0), ("lowest", 0.5), ("highest", 2.0))
        ),
    ]


@pytest.fixture
def records() -> list[Record]:
    rates = {("training step", "float32"): 50e9, ("training step", "plain float32"): 40e9}
    sizes = {"images": (100, 200), "points": (1000, 2000), "clusters": (10, 20), "dimensions": (4, 8)}
    return [
        *side_by_side("kmeans", WORK, {"FAISS": 3.0, "auto": 2.0, "torch": 1.0}, {"FAISS": 1.5, "torch": 0.5}),
        *side_by_side("probes", "2 steps", {"13 in one pass": 1.3, "conv13 alone": 1.0}, {"conv13 alone": 0.77}),
        *(measured("rate", rate, "FLOP/s", work=work, way=way) for (work, way), rate in rates.items()),
        measured("rate", 100e9, "FLOP/s", work="matrix product", way="float32"),
        *(
            measured("pipeline_stage_time", value, "ms", stage=stage, photo=photo, statistic="median")
            for photo in ("500 x 375", "1600 x 1200")
            for stage, value in (("read", 0.25), ("decode", 2.0))
        ),
        *(
            measured(f"whitening_{name}", value, "MB", 300, way="stored", rows_per_file=256)
            for name, value in (("peak_memory", 900.0), ("memory_before", 700.0), ("seconds", 3.0))
        ),
        *(
            measured("growth_seconds", 0.01 * n, "s", n, work=work, against=against, statistic=statistic)
            for against, ns in sizes.items()
            for work in ("features" if against == "images" else "k-means",)
            for n in ns
            for statistic in ("median", "lowest")
        ),
    ]


def test_time_is_added_up_by_stage_and_method_once_for_each_run():
    cards = [
        make_card("rotnet", 0, stage="pretrain", seconds=60.0),
        make_card("rotnet", 1, stage="pretrain", seconds=120.0),
        make_card("random", 0, stage="linear_probe", seconds=30.0),
        make_card("data", 0, stage="hashtags", seconds=1e6),  # about images, not a network
    ]
    runs = [Record(name=name, value=1.0, unit="%", n=1, card=card) for card in reversed(cards) for name in ("a", "b")]
    seconds = stage_seconds(runs)
    assert seconds == {"pre-training": {"rotnet": 180.0}, "linear probes": {"random": 30.0}}
    assert list(seconds) == ["pre-training", "linear probes"]
    ax = page.plot_stages(seconds)
    assert sorted(bar.get_width() for bar in ax.patches) == [0.0, 0.0, 0.5, 3.0]
    text = repr(page.time_figure(runs))
    assert "pre-training 3.0 min, 86% (most: RotNet)" in text
    assert "2 seeds together" in text


def test_a_stage_of_less_than_a_share_of_the_whole_has_no_bar():
    ax = page.plot_stages({"pre-training": {"rotnet": 1000.0}, "colour": {"rotnet": 1.0}})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["pre-training"]


def test_a_table_has_ours_first_and_says_what_was_wanted(records):
    table = page.comparison_table(records, "kmeans")
    (group,) = table.groups
    assert group.title == WORK
    assert [(row.label, *(cell.text for cell in row.cells)) for row in group.rows] == [
        ("ours (auto)", "2", "1.8 to 2.4", "–", "–"),
        ("FAISS", "3", "2.7 to 3.6", "1.50 times", "1.50 times"),
        ("ours, all in float32", "1", "0.9 to 1.2", "0.50 times", "–"),
    ]
    assert "5 turns" in table.notes[0]
    assert "benchmarks/kmeans.py" in table.notes[0]


def test_the_figure_has_a_bar_for_each_comparison_ahead_or_behind(records):
    text = repr(page.side_by_side_figure(records))
    assert "k-means, 1,000 clusters: FAISS 1.50; probes: conv13 alone 0.77" in text
    assert "torch" not in text  # which is ours too
    ax = page.plot_ratios({"k-means: FAISS": 1.5, "probes: conv13 alone": 0.5})
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(1, 0.5), (1, -0.5)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["k-means:\nFAISS", "probes:\nconv13 alone"]


@pytest.mark.parametrize(
    ("benchmark", "work", "name"),
    [
        ("training_step", "features: 64 images of 64 pixels, VGG-16", "features"),
        ("pipeline", "photographs of 500 x 375 pixels to crops of 224", "pipeline, 500 x 375"),
        ("whitening_memory", "whitening 8,192 features of 4,096 numbers, resident memory", "whitening, 8,192"),
        ("kmeans", WORK, "k-means, 1,000 clusters"),
        ("kmeans", f"{WORK}, features of rotnet of pocket", "k-means, 1,000 clusters, features"),
        ("kmeans", f"{WORK}, kept to AVX2", "k-means, 1,000 clusters, AVX2"),
    ],
)
def test_works_of_one_program_are_told_apart(benchmark, work, name):
    assert page.short_name(benchmark, work) == name


def test_a_target_stands_where_it_was_set(records):
    for work, wanted in (("training step: 64 images", "3.00 times"), ("features: 64 images", "–")):
        found = side_by_side("training_step", work, {"plain float32": 3.0, "bfloat16": 1.0}, {"plain float32": 3.0})
        (group,) = page.comparison_table(found, "training_step").groups
        assert [row.cells[-1].text for row in group.rows] == ["–", wanted]


def test_rates_are_shares_of_the_limit_in_their_precision(records):
    (group,) = page.limit_table(records).groups
    assert [(row.label, *(cell.text for cell in row.cells)) for row in group.rows] == [
        ("training step, float32", "50", "50%"),
        ("training step, plain float32", "40", "40%"),
        ("matrix product, float32", "100", "100%"),
    ]


def test_stages_and_memory_are_shown(records):
    (group,) = page.stage_table(records).groups
    assert [[cell.text for cell in row.cells] for row in group.rows] == [["0.25", "0.25"], ["2.00", "2.00"]]
    table = page.memory_table(records)
    assert [cell.text for cell in table.groups[0].rows[0].cells] == ["256", "900", "700", "3.0"]
    assert "4,096" in table.caption


def test_growth_is_drawn_from_medians_with_slopes(records):
    assert page.growth_points(records, "images", "points") == {
        "features": {100: 1.0, 200: 2.0},
        "k-means, points": {1000: 10.0, 2000: 20.0},
    }
    text = repr(page.growth_figure(records))
    assert "k-means, dimensions from 0.0 s at 4 clusters or dimensions to 0.1 s at 8, slope 1.00" in text


@pytest.mark.parametrize(
    "show",
    [
        page.side_by_side_figure,
        page.limit_table,
        page.stage_table,
        page.memory_table,
        page.growth_figure,
        lambda records: page.comparison_table(records, "kmeans"),
    ],
)
def test_what_was_not_measured_says_what_to_run(show):
    assert "python benchmarks/" in repr(show([]))
    assert "Nothing has run yet" in repr(page.time_figure([]))


def test_neighbours_are_compared_with_one_after_the_other():
    rates = {("spinning", 2): (537.0, 324.0), ("asleep", 2): (473.0, 685.0), ("asleep", 1): (300.0, 600.0)}
    found = [
        measured("neighbours_rate", rate, "images/s", work="training", wait=wait, threads=threads, company=company)
        for (wait, threads), both in rates.items()
        for company, rate in zip(("alone", "side by side"), both, strict=True)
    ]
    text = neighbours_table(found)._repr_html_()
    for said in (
        "spinning, 2 threads each",
        "537 images/s",
        "324 images/s",
        "60%",
        "145%",
        "asleep, 1 thread each",
        "200%",
    ):
        assert said in text
    assert "neighbours.py" in neighbours_table([])._repr_html_()
