"""The imported metadata table: the in-memory reader and in-memory counts are the oracle of everything here."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_images import NoReader

from dclib.analysis import metadata_runs
from dclib.analysis.hashtags import count_tags, rank_table_tags, rank_tags, read_tags
from dclib.analysis.metadata import FIELDS, MatchedPhotos, match_photos
from dclib.analysis.metadata_queries import table_photos
from dclib.analysis.metadata_runs import clustered_photos, ranked_tags
from dclib.data import metadata_table
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.metadata_table import connect, import_metadata, is_large, table_facts
from dclib.data.yfcc_metadata import PhotoMetadata, parse_metadata, read_metadata
from dclib.presets import load_preset

FIELDS_OF_A_LINE = (
    *("7", "1@N0", "nick", "2005-03-01 12:39:28.0", "1111467388", "cam", "title", "text", "a,b", "m:x=1"),
    *("1.5", "-2.5", "15", "page", "file", "licence", "terms", "8", "1", "secret", "other", "jpg", "0"),
)
QUIRKS = (  # column and what stands there; the separators are line ends to Python's splitlines, not to the table
    {3: "4501-01-01 00:00:00.0"},
    {3: "null", 4: "null", 5: "", 8: "", 9: "", 10: "", 11: "", 12: ""},
    {3: "2005-02-30 00:00:00.0", 4: "99999999999999", 12: "1234567890123456789012"},
    {3: "2005-03-01T12:00+02:00", 4: "-5", 12: "99"},
    {3: "0001-01-01 00:00:00.0", 10: "1e2", 11: "-0"},
    {6: '"', 7: 'a "quoted" \\ and \\n, \\', 2: "'", 5: '"",""'},
    {6: "%22%5C%0A%09%0D", 7: "%00", 8: "%00,a%00b"},
    {6: "%zz%4", 7: "caf%E9", 8: "%E9%9B%AA,%ED%A0%80,%F0%9F%98%80"},
    {7: "caf\udce9 \x85\u2028\r", 8: "caf\udce9"},
    {8: "a%2Cb,c%2Bd,e+f,,#Cat,cat,＃ＣＡＴ,Straße,++", 9: ",,"},
    {8: '"],[",\\u0041,{}', 1: ""},
    {8: "cat", 22: "1"},
    {10: "180", 11: "90"},
    {0: "999999999999999999"},
)
MALFORMED = ("cut\tshort", "\t".join(FIELDS_OF_A_LINE[:22]), "\t".join([*FIELDS_OF_A_LINE, "x"]), "x" * 50)


def line_with(changes: dict[int, str]) -> str:
    """A line of 23 columns, some of them changed."""
    return "\t".join(changes.get(column, text) for column, text in enumerate(FIELDS_OF_A_LINE))


def write_lines(path: Path, lines: list[str]) -> Path:
    content = "\n".join(lines).encode(errors="surrogateescape")
    path.write_bytes(bz2.compress(content) if path.suffix.lower() == ".bz2" else content)
    return path


def drawn_lines(n: int, seed: int = 0) -> list[str]:
    """Lines with few users, cameras, places and tags, so that clusters and values meet often."""
    rng = np.random.default_rng(seed)
    words = ("cat", "Cat", "#dog", "new+york", "New++York", "caf%C3%A9", "%EF%BC%A3at", "sunset", "x")
    lines = []
    for number in range(n):
        tags = rng.choice(words, size=rng.integers(0, 5), p=[0.3, 0.1, *[0.6 / 7] * 7])
        place = (
            {10: f"{rng.uniform(-3, 3):.6f}", 11: f"{rng.uniform(-2, 2):.6f}"}
            if rng.random() < 0.6
            else {10: "", 11: ""}
        )
        camera = rng.choice(["", "Canon", "Nikon+D90", '"odd"'])
        user = f"{rng.integers(0, 9)}@N00"
        lines.append(
            line_with({0: str(1000 + 3 * number), 1: user, 2: f"me+{user}", 5: camera, 8: ",".join(tags), **place})
        )
    return lines


def photos_of(table: Path) -> tuple[PhotoMetadata, ...]:
    """Every row as the in-memory reader would have it; ``hashtags`` is compared on the way."""
    with duckdb.connect() as connection:
        found = connection.execute("FROM read_parquet(?)", [str(table)])
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    photos = []
    for row in rows:
        hashtags = row.pop("hashtags")
        for name in ("user_tags", "machine_tags"):
            row[name] = tuple(row[name])
        for name in ("longitude", "latitude"):
            row[name] = np.nan if row[name] is None else row[name]
        uploaded = row.pop("date_uploaded")
        uploaded = uploaded and uploaded.replace(tzinfo=UTC)
        photos.append(PhotoMetadata(**row, date_uploaded=uploaded, is_video=False))
        assert photos[-1].hashtags == hashtags
    return tuple(photos)


def assert_same_as_in_memory(source: Path, folder: Path, *, max_bad: float = 0.01) -> None:
    expected = read_metadata(source, max_bad=max_bad)
    table = import_metadata(source, folder, max_bad=max_bad, processes=1)
    # repr, for NaN is unequal to itself
    assert list(map(repr, photos_of(table))) == list(map(repr, expected.photos))
    facts = table_facts(table)
    assert facts.n_lines == len(expected) + expected.n_bad + expected.n_videos
    assert (facts.n_bad, facts.n_videos) == (expected.n_bad, expected.n_videos)
    assert facts.bad_lines == expected.bad_lines[: metadata_table.SHOWN_BAD]


# 25 columns


def test_what_no_page_shows_leaves_the_words_of_people():
    photo = parse_metadata(line_with({6: "a%00b%1Bc%0Ad%7F", 8: "cat%08s,dog"}))
    assert (photo.title, photo.user_tags) == ("a b c\nd ", ("cat s", "dog"))


def test_a_table_with_line_numbers_and_hashes_is_the_same_table(tmp_path):
    """Told by its shape; a part of the table keeps the numbers of its lines, and so the names of its photographs."""
    plain = drawn_lines(40)
    fields = [line.split("\t") for line in plain]
    numbered = ["\t".join([str(i), f[0], "0123abcd" * 4, *f[1:]]) for i, f in enumerate(fields)]
    expected = read_metadata(write_lines(tmp_path / "c23", plain)).photos
    assert list(map(repr, read_metadata(write_lines(tmp_path / "c25.BZ2", numbered)))) == list(map(repr, expected))
    part = write_lines(tmp_path / "part", numbered[30:])
    assert list(map(repr, read_metadata(part))) == list(map(repr, expected[30:]))
    assert_same_as_in_memory(part, tmp_path / "tables")


# the import


def test_real_lines_are_those_read_in_memory(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    assert_same_as_in_memory(shared_data("yfcc100m/yfcc100m_dataset_sample.tsv"), tmp_path)


@pytest.mark.parametrize("name", ["table.tsv", "table.bz2"])
def test_odd_lines_are_those_read_in_memory(tmp_path: Path, name: str) -> None:
    lines = [line_with(quirk) for quirk in QUIRKS]
    lines = [*lines, *MALFORMED, "", "   ", line_with({0: "1234567890123456789"}), *(f"{text}\r" for text in lines)]
    assert_same_as_in_memory(write_lines(tmp_path / name, lines), tmp_path / "kept", max_bad=0.5)


def test_parts_are_joined_in_order_with_the_numbers_of_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_table, "PART_BYTES", 20_000)
    lines = drawn_lines(3000)
    lines[700:700] = [*MALFORMED, ""]
    lines[1400:1400] = MALFORMED * 5  # more than are shown
    assert_same_as_in_memory(write_lines(tmp_path / "table.bz2", lines), tmp_path / "kept", max_bad=0.1)


def test_several_processes_write_the_same_table(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "table.tsv", drawn_lines(300))
    one = import_metadata(source, tmp_path / "one", processes=1)
    two = import_metadata(source, tmp_path / "two", processes=2)
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


@pytest.fixture
def parts_written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """First lines of the parts that are written; after two of them the import is stopped, once."""
    written: list[int] = []
    write = metadata_table._write_part

    def stopping(source: Path, target: Path, first: int, lines: list[bytes]) -> None:
        if len(written) == 2:
            written.append(-1)
            raise KeyboardInterrupt
        written.append(first)
        write(source, target, first, lines)

    monkeypatch.setattr(metadata_table, "PART_BYTES", 20_000)
    monkeypatch.setattr(metadata_table, "_write_part", stopping)
    return written


def test_an_import_that_was_stopped_goes_on(tmp_path: Path, parts_written: list[int]) -> None:
    source = write_lines(tmp_path / "table.tsv", drawn_lines(500))
    with pytest.raises(KeyboardInterrupt):
        import_metadata(source, tmp_path / "kept", processes=1)
    assert not list((tmp_path / "kept").glob("*.parquet"))
    assert_same_as_in_memory(source, tmp_path / "kept")
    firsts = [first for first in parts_written if first >= 0]
    assert len(firsts) == len(set(firsts)) > 3  # none twice
    assert [path.suffix for path in (tmp_path / "kept").iterdir() if path.name != ".importing"] == [".parquet"]


def test_a_table_is_made_once_for_a_file_and_anew_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_lines(tmp_path / "table.tsv", drawn_lines(20))
    table = import_metadata(source, tmp_path / "kept", processes=1)
    with monkeypatch.context() as patched:
        patched.setattr(metadata_table, "_import", lambda *_: pytest.fail("it was made already"))
        assert import_metadata(source, tmp_path / "kept", processes=1) == table
    write_lines(source, drawn_lines(21))
    assert len(photos_of(import_metadata(source, tmp_path / "kept", processes=1))) == 21


def test_too_many_malformed_lines_are_refused_and_nothing_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "table.tsv", [*drawn_lines(48), *MALFORMED[:2]])
    with pytest.raises(
        ValueError, match=r"2 of 50 lines .* more than the 1\.00% allowed; line 49: need 23 columns, or 25 .* got 2"
    ):
        import_metadata(source, tmp_path / "kept", processes=1)
    monkeypatch.setattr(metadata_table, "_import", lambda *_: pytest.fail("it was made already"))
    assert len(photos_of(import_metadata(source, tmp_path / "kept", max_bad=0.04, processes=1))) == 48


def test_a_file_that_is_no_table_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no metadata at .*gone\.tsv: need a file of 23"):
        import_metadata(tmp_path / "gone.tsv", tmp_path / "kept")
    other = write_lines(tmp_path / "other.tsv", ["a,b,c"] * 30)
    with pytest.raises(ValueError, match="none of its first 30 lines can be read; need 23 columns, or 25 .* got 1"):
        import_metadata(other, tmp_path / "kept", processes=1)
    for lines in ([], ["", "  "]):
        with pytest.raises(ValueError, match="it has no lines"):
            import_metadata(write_lines(tmp_path / "empty.tsv", lines), tmp_path / "kept", processes=1)
    whole = write_lines(tmp_path / "whole.bz2", drawn_lines(3000)).read_bytes()
    (tmp_path / "part.bz2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"part\.bz2 is cut short, after line 0 at least"):
        import_metadata(tmp_path / "part.bz2", tmp_path / "kept", processes=1)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [".importing"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_lines(tmp_path / "table.tsv", drawn_lines(20))
    monkeypatch.setattr(metadata_table, "make_folder", lambda folder: folder.parent.mkdir(exist_ok=True))
    (tmp_path / "kept").mkdir()  # the parts' folder is missing: to DuckDB that is a file that it cannot open
    with pytest.raises(OSError, match=r"could not write .*000000\.parquet: .*free some space"):
        import_metadata(source, tmp_path / "kept", processes=1)


def test_questions_larger_than_memory_go_on_in_files_and_leave_none(tmp_path: Path) -> None:
    with connect(tmp_path, memory="60MB", threads=1) as connection:
        query = (
            "SELECT count(*), sum(len(s)) FROM (SELECT DISTINCT repeat(i::VARCHAR, 9) AS s FROM range(1500000) r(i))"
        )
        ((n, characters),) = connection.execute(query).fetchall()
    assert (n, characters) == (1_500_000, 9 * sum(len(str(i)) for i in range(1_500_000)))
    assert list(tmp_path.iterdir()) == []


# hashtags


def test_hashtags_are_counted_as_in_memory(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    words = ["Cat", "New York", "dog", "unicorn"]
    lines = [*drawn_lines(2000), *(line_with(quirk) for quirk in QUIRKS)]
    real = shared_data("yfcc100m/yfcc100m_dataset_sample.tsv").read_text(encoding="utf-8").splitlines()
    source = write_lines(tmp_path / "table.tsv", lines + real)
    photos = read_tags(source)
    counts = count_tags(photos)
    for drawn in (5, 1000):
        found = rank_table_tags(import_metadata(source, tmp_path / "kept", processes=1), words, drawn)
        expected = rank_tags(photos, words, drawn)
        np.testing.assert_array_equal(found.counts, expected.counts)
        assert (found.photographs, found.at_rank, found.ranks) == (
            expected.photographs,
            expected.at_rank,
            expected.ranks,
        )
        # and as Figure 1 had them before there was a table
        assert sorted(found.counts.tolist()) == sorted(counts.values())
        assert all(counts[tag] == found.counts[rank - 1] for rank, tag in found.at_rank.items())
    assert set(found.ranks) == {"cat", "new york", "dog"}


def test_photographs_without_hashtags_have_no_ranks(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "table.tsv", [line_with({8: ""})] * 3)
    found = rank_table_tags(import_metadata(source, tmp_path / "kept", processes=1), ["cat"], 5)
    assert (found.photographs, len(found.counts), found.at_rank, found.ranks) == (3, 0, {}, {})


# clusters


def clustered(ids: list[str]) -> tuple[ImageSet, NDArray[np.int64]]:
    return ImageSet("pool", ids, NoReader()), np.random.default_rng(1).integers(0, 25, len(ids))


NUMBER_IDS = [f"{1000 + 3 * i:08d}" for i in range(1200)][::-1]
IMAGE_IDS = {
    "numbers of photographs": [*NUMBER_IDS, "4", "cat.jpg", "00001003", "12345678901234567890"],
    "numbers of lines": [f"{i:08d}" for i in range(900)],
    "lines, one of which is a photograph's number too": [f"{i:08d}" for i in range(1010)],
    "no numbers": ["a.jpg", "b.jpg"],
}


@pytest.mark.parametrize("ids", IMAGE_IDS.values(), ids=IMAGE_IDS)
def test_clusters_are_about_the_same_as_in_memory(tmp_path: Path, ids: list[str]) -> None:
    images, clusters = clustered(ids)
    lines = drawn_lines(1500)
    lines += [line_with({0: "1003", 1: "again", 5: "Leica", 8: "again"})]  # a number for the second time
    source = write_lines(tmp_path / "table.tsv", lines)
    expected = MatchedPhotos(clusters, match_photos(images, read_metadata(source)))
    with table_photos(import_metadata(source, tmp_path / "kept", processes=1), images, clusters) as found:
        assert len(found) == len(expected)
        for field in FIELDS:
            ours, theirs = found.agreement(field, seed=3), expected.agreement(field, seed=3)
            assert (ours is None) == (theirs is None) == (ids == IMAGE_IDS["no numbers"])
            if ours and theirs:
                # sums of a few hundred logarithms in another order
                np.testing.assert_allclose(*(list(vars(of).values()) for of in (ours, theirs)), rtol=0, atol=1e-12)
            for smallest, count in ((1, 100), (int(np.bincount(clusters).max()), 3)):
                asked = {"smallest": smallest, "count": count}
                assert found.dominated(field, **asked) == expected.dominated(field, **asked)
        rows = [0, len(ids) - 1, 1]
        assert found.nicknames(rows) == expected.nicknames(rows)


def test_numbers_of_images_need_no_text(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "table.tsv", drawn_lines(30))
    table = import_metadata(source, tmp_path / "kept", processes=1)
    images = ImageSet("pool", NumberedIds(np.array([1003, 1000, 5]), 8), NoReader())
    with table_photos(table, images, np.array([0, 0, 1])) as found:
        assert len(found) == 2


def test_chance_is_estimated_where_its_expectation_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, clusters = clustered(IMAGE_IDS["numbers of photographs"])
    table = import_metadata(write_lines(tmp_path / "table.tsv", drawn_lines(1500)), tmp_path / "kept", processes=1)
    with table_photos(table, images, clusters) as found:
        exact = found.agreement("hashtag", seed=3)
        monkeypatch.setattr("dclib.analysis.metadata_queries.EXACT_STEPS", 0)
        estimated = found.agreement("hashtag", seed=3)
    assert exact
    assert estimated
    # chance information of 150 cells and 900 photographs spreads by a tenth of itself, and five are averaged
    assert exact.ami != estimated.ami
    assert abs(exact.ami - estimated.ami) < 0.02


# the choice between both


def test_a_table_is_large_when_its_text_would_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_table, "LARGE_BYTES", 1000)
    for name, size, large in (("a", 1000, False), ("a", 1001, True), ("a.bz2", 250, False), ("a.bz2", 251, True)):
        (tmp_path / name).write_bytes((b"BZh" if name == "a.bz2" else b"").ljust(size, b"x"))
        assert is_large(tmp_path / name) == large


def test_large_files_give_the_same_figure_and_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    video = line_with({0: "1003", 1: "filmed", 8: "cat,filmed", 22: "1"})  # of the number of a photograph
    source = write_lines(tmp_path / "table.tsv", [video, *drawn_lines(400), *MALFORMED[:1], video])
    preset = load_preset("smoke")
    images, clusters = clustered([f"{1000 + 3 * i:08d}" for i in range(300)])
    found = []
    for large in (False, True):
        monkeypatch.setattr(metadata_runs, "is_large", lambda _, large=large: large)
        ranked, without = ranked_tags(preset, source, ["Cat"])
        records = metadata_runs.hashtag_records(ranked, {"Cat": 3})
        with clustered_photos(preset, source, images, clusters) as (photos, also_without):
            found.append((records, photos.dominated("hashtag", smallest=2, count=3), len(photos)))
            assert photos.nicknames([1])[0].startswith("me ")  # not "nick", who filmed
        assert without == also_without == {"videos": 2, "malformed_lines": 1}
        assert (ranked.photographs, "filmed" in ranked.at_rank.values()) == (400, False)
    assert found[0] == found[1]
    assert list((tmp_path / "runs" / "metadata").glob("table.tsv-*.parquet"))
