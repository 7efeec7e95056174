"""The page about size: lines and slopes from records, words from lines, and a sentence where nothing was measured."""

from dataclasses import replace

import pytest

from dclib.records import DATA, Record, RunCard, write_records
from dclib.report.scaling import (
    benchmark_records,
    clustering_seconds,
    growth_figure,
    growth_table,
    kill_table,
    plot_growth,
    reading_table,
    slope,
)

CARD = RunCard(
    stage="benchmark",
    preset="benchmarks",
    method=DATA,
    seed=0,
    config_hash="c",
    data_hash="",
    code_hash="abc",
    device="cpu (1 thread)",
    seconds=1.0,
    created="2026-01-02T00:00:00+00:00",
    config={"n_super": 2, "n_sub": 500, "pca_dim": 256},
)
SIZES = (100, 1000, 10_000)


def growth_records(precision: str = "float16") -> list[Record]:
    """Times that grow as n, n and n to the power 1/2; memory that grows by a tenth at the last step."""
    records = []
    for n in reversed(SIZES):  # in no order
        seconds = {"whitening": n**0.5, "level 1": 0.01 * n, "level 2": 0.02 * n, "all": 3.0}
        memory = {"peak_memory": 1100.0 if n == SIZES[-1] else 1000.0, "memory_before": 800.0}
        keys = {"precision": precision}
        records += [
            Record(name="seconds", value=v, unit="s", n=n, keys={**keys, "phase": p}, card=CARD)
            for p, v in seconds.items()
        ]
        records += [Record(name=name, value=v, unit="MB", n=n, keys=keys, card=CARD) for name, v in memory.items()]
    return records


def other_records() -> list[Record]:
    """Of programs that measure reading: the same names must not be taken for the clustering's."""
    return [
        Record(name="peak_memory", value=1.0, unit="MB", n=7, keys={"step": "import"}, card=CARD),
        Record(
            name="images_per_second",
            value=1234.0,
            unit="images/s",
            n=9,
            keys={"way": "index", "cache": "cold"},
            card=CARD,
        ),
        Record(name="images_per_second", value=9.0, unit="images/s", n=9, keys={"statistic": "lowest"}, card=CARD),
        Record(name="seconds", value=5.0, unit="s", n=3, keys={"phase": "whitening"}, card=CARD),
        Record(name="overhead", value=5.0, unit="s", n=3, card=CARD),
    ]


def kill_records() -> list[Record]:
    kills = {"loading and in between": 2, "training": 3}
    return [
        *(Record(name="kills", value=v, unit="kills", n=5, keys={"phase": p}, card=CARD) for p, v in kills.items()),
        Record(name="compared", value=1, unit="runs", n=5, card=CARD),
        Record(name="compared", value=504, unit="records", n=5, card=CARD),
    ]


@pytest.mark.parametrize(("power", "factor"), [(1.0, 3.0), (0.0, 900.0), (0.5, 1e-3)])
def test_slope_is_the_exponent_of_a_power_law(power, factor):
    assert slope({n: factor * n**power for n in SIZES}) == pytest.approx(power, abs=1e-12)


def test_lines_are_those_of_the_clustering_in_order_of_images():
    found = clustering_seconds([*other_records(), *growth_records()])
    assert found["whitening"] == {100: 10.0, 1000: 1000**0.5, 10_000: 100.0}
    assert list(found["level 2"]) == list(SIZES)
    assert found.keys() == {"whitening", "level 1", "level 2"}
    assert clustering_seconds([*growth_records(), *growth_records("float32")]) == found  # of one precision


def test_figure_draws_every_point_and_names_every_slope():
    lines = clustering_seconds(growth_records())
    ax = plot_growth(lines, "seconds")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert {line.get_label(): tuple(line.get_ydata()) for line in ax.get_lines()} == {
        "whitening, slope 0.50": tuple(lines["whitening"].values()),
        "level 1, slope 1.00": (1.0, 10.0, 100.0),
        "level 2, slope 1.00": (2.0, 20.0, 200.0),
    }
    text = repr(growth_figure(growth_records()))
    assert "level 2 from 2.0 s at 100 images to 200.0 s at 10,000, slope 1.00" in text
    assert "peak from 1,000.0 MB at 100 images to 1,100.0 MB at 10,000" in text


def test_table_has_a_row_for_each_number_of_images_and_says_how_memory_grows():
    table = growth_table([*other_records(), *growth_records()])
    (group,) = table.groups
    assert [row.label for row in group.rows] == ["100", "1,000", "10,000"]
    assert [cell.text for cell in group.rows[2].cells] == ["100.0", "100.0", "200.0", "3.0", "1,100", "800"]
    assert "From 1,000 to 10,000 images the peak grows by 10.0%" in table.notes[0]
    assert "cpu (1 thread) by benchmarks/clustering_growth.py, 2026-01-02, code abc" in table.notes[0]
    assert "2 x 500 clusters" in table.caption


def test_kills_are_counted_by_phase():
    table = kill_table(kill_records())
    assert table.caption.startswith("5 kills")
    assert [(row.label, row.cells[0].text) for row in table.groups[0].rows] == [
        ("loading and in between", "2"),
        ("training", "3"),
    ]
    assert "504 records" in table.notes[0]
    assert "1 runs" not in table.notes[0]


def test_reading_shows_medians_of_what_was_read_and_nothing_else():
    table = reading_table([*growth_records(), *other_records(), *kill_records()])
    assert [(row.label, row.cells[0].text) for row in table.groups[0].rows] == [
        ("peak memory: import", "1 MB"),
        ("images per second: index, cold cache", "1,234 images/s"),
    ]


@pytest.mark.parametrize("show", [growth_figure, growth_table, kill_table, reading_table])
def test_what_was_not_measured_says_what_to_run(show):
    unrelated = [replace(record, name="other") for record in other_records()]
    assert "python benchmarks/" in repr(show(unrelated))


def test_records_of_benchmarks_are_read_from_a_folder(tmp_path):
    write_records(tmp_path / "a.json", CARD, kill_records())
    assert [record.name for record in benchmark_records(tmp_path)] == ["kills", "kills", "compared", "compared"]
    assert benchmark_records(tmp_path / "none") == []
