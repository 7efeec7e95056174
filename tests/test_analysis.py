"""Colours, hashtags and metadata: measures by hand or by another way of counting."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_images import NoReader, labelled

from dclib.analysis.clusterings import analysed_clustering
from dclib.analysis.colour import colour_spreads, mean_colours, spread_of
from dclib.analysis.hashtags import count_tags, example_words, gini, rank_tags, read_tags, spaced_ranks, top_share
from dclib.analysis.metadata import (
    agreement,
    cell_of,
    dominated_clusters,
    field_values,
    match_photos,
    purity,
)
from dclib.analysis.metadata_runs import hashtag_records
from dclib.config import RECIPES
from dclib.data.images import ImageSet
from dclib.data.yfcc_metadata import MetadataTable, PhotoMetadata, normalise_tag, parse_metadata
from dclib.presets import load_preset

EXACT = 1e-12


# what is analysed


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.clusters])
def test_a_recipe_is_analysed_on_the_levels_it_trains_with(name: str) -> None:
    assert analysed_clustering(load_preset(name)) == RECIPES[name].cluster  # 4 x 80,000, not 320,000 at once


def test_a_given_number_of_clusters_is_made_on_one_level() -> None:
    found = analysed_clustering(load_preset("deepercluster_yfcc100m", {"analysis.clusters": 7}))
    assert (found.n_super, found.n_sub, found.pca_dim) == (1, 7, 4096)


# colour


def test_mean_colours_are_those_of_the_centre() -> None:
    pictures = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    pictures[0, :, 2:6, 2:6] = torch.tensor([10, 20, 30], dtype=torch.uint8).view(3, 1, 1)
    pictures[1, 0] = 200
    pixels = labelled(pictures, [0, 1], 4)
    # bytes pass through single precision on the way
    np.testing.assert_allclose(mean_colours(pixels), [[10, 20, 30], [200, 0, 0]], atol=1e-4)


def test_the_spread_is_the_root_of_the_mean_squared_distance() -> None:
    assert spread_of(np.array([[0.0, 0, 0], [3, 4, 0]])) == pytest.approx(2.5, abs=EXACT)
    colours = np.random.default_rng(0).uniform(0, 255, (50, 3))
    by_pairs = np.mean([((a - b) ** 2).sum() for a in colours for b in colours]) / 2  # of all ordered pairs
    assert spread_of(colours) ** 2 == pytest.approx(by_pairs)


def test_spreads_of_clusters_are_those_of_their_members_sorted() -> None:
    rng = np.random.default_rng(1)
    colours, clusters = rng.uniform(0, 255, (60, 3)), rng.integers(0, 9, 60)
    clusters[clusters == 4] = 5
    clusters[0] = 4  # one image alone has no spread, and is left out
    found = colour_spreads(colours, clusters, drawn=100, rng=rng)
    assert {s.cluster for s in found} == set(clusters.tolist()) - {4}
    assert [s.spread for s in found] == sorted(s.spread for s in found)
    for s in found:
        members = colours[clusters == s.cluster]
        assert s.size == len(members)
        assert s.mean == pytest.approx(members.mean(axis=0))
        assert s.spread == pytest.approx(math.sqrt(members.var(axis=0).sum()))


def test_no_more_clusters_are_drawn_than_asked_for_and_not_always_the_same() -> None:
    colours = np.random.default_rng(1).uniform(0, 255, (400, 3))
    clusters = np.arange(400) % 100
    drawn = [colour_spreads(colours, clusters, drawn=10, rng=np.random.default_rng(s)) for s in (0, 0, 1)]
    chosen = [{s.cluster for s in found} for found in drawn]
    assert len(chosen[0]) == 10
    assert chosen[0] == chosen[1] != chosen[2]


# hashtags


@pytest.mark.parametrize(
    ("tag", "normal"),
    [
        ("#Cat", "cat"),
        ("  New   York ", "new york"),
        ("ＣＡＴ", "cat"),
        ("Straße", "strasse"),
        ("café", "café"),
        ("#", ""),
    ],
)
def test_tags_are_normalised_as_the_page_says(tag: str, normal: str) -> None:
    assert normalise_tag(tag) == normal


def test_a_photograph_counts_once_for_each_tag() -> None:
    assert count_tags([("Cat", "#cat", "dog"), ("cat",), ("", "#")]) == Counter(cat=2, dog=1)


@pytest.mark.parametrize(
    ("counts", "expected"), [([5, 5, 5], 0.0), ([0, 0, 1], 2 / 3), ([1, 2, 3], 2 / 9), ([7], 0.0), ([1, 3], 0.25)]
)
def test_gini_by_hand(counts: list[int], expected: float) -> None:
    assert gini(counts) == pytest.approx(expected, abs=EXACT)


def test_gini_is_half_the_relative_mean_difference() -> None:
    counts = np.random.default_rng(0).geometric(0.01, 80)
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(counts.tolist()) == pytest.approx(differences / (2 * counts.mean()))
    with pytest.raises(ValueError, match="counts above zero"):
        gini([])


def test_top_share_and_ranks() -> None:
    assert top_share([97, 1, 1, 1], 0.25) == 0.97
    assert top_share([1] * 200) == 0.01
    ranks = spaced_ranks(10_000, 50)
    assert (ranks[0], ranks[-1]) == (1, 10_000)
    assert ranks == sorted(set(ranks))
    assert len(ranks) <= 50
    assert spaced_ranks(3, 50) == [1, 2, 3]


def test_example_words_are_labels_that_are_tags_too() -> None:
    tags = Counter({"cat": 50, "dog": 7, "tree": 3, "sunset": 900})
    assert example_words(tags, ["Tree", "Cat", "Dog", "Unicorn"]) == ("Cat", "Tree")
    assert example_words(tags, ["Cat"]) == ("Cat",)
    assert example_words(tags, ["Unicorn"]) == ()


def test_records_of_figure_1() -> None:
    photos = [("Cat", "x"), ("cat",), ("cat", "dog")]
    labels = {"Cat": 4, "Dog": 4, "None": 0}
    found = {(r.name, *r.keys.values()): r.value for r in hashtag_records(rank_tags(photos, labels, 9), labels)}
    assert found[("hashtag_images", 1, "cat")] == 3
    assert found[("hashtag_distinct",)] == 3
    assert found[("label_gini",)] == pytest.approx(0)
    assert found[("example_tag_images", "Cat", 1, 1)] == 3
    (dog,) = [key for key in found if key[:2] == ("example_label_images", "Dog")]
    assert (found[dog], dog[3]) == (4, 2)  # second of the labels
    assert found[("hashtag_images", 2, "dog")] == 1  # of two as frequent, the first by the alphabet
    assert hashtag_records(rank_tags([(), ()], labels, 9), labels) == []


def test_three_forms_of_metadata_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"tags": "one two"}, {"tags": None}, {}]))
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="utf-8") as file:
        file.write("id,label\n1,Larus argentatus\n2,Quercus\n")
    (tmp_path / "c.tsv").write_text(line(5, tags="cat,New+York") + "\n")
    assert read_tags(tmp_path / "a.json") == [("one", "two"), (), ()]
    assert read_tags(tmp_path / "b.csv.gz") == [("Larus argentatus",), ("Quercus",)]
    assert read_tags(tmp_path / "c.tsv") == [("cat", "New York")]
    assert read_tags(tmp_path) == read_tags(tmp_path / "a.json")


def test_metadata_that_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no metadata at"):
        read_tags(tmp_path / "none.tsv")
    (tmp_path / "a.json").write_text('{"tags": 3}')
    with pytest.raises(ValueError, match="no list of photographs"):
        read_tags(tmp_path / "a.json")
    (tmp_path / "a.csv").write_text("id,name\n1,2\n")
    with pytest.raises(ValueError, match="a column 'label'; it has id, name"):
        read_tags(tmp_path / "a.csv")
    short = "\t".join(line(1).split("\t")[:22])
    (tmp_path / "short.tsv").write_text("\n".join([line(1), short]) + "\n")
    with pytest.raises(ValueError, match="need 23 columns, or 25 with .* first; got 22"):
        read_tags(tmp_path / "short.tsv")
    assert len(read_tags(tmp_path / "short.tsv", max_bad=0.5)) == 1


def test_real_metadata(shared_data: Callable[[str], Path]) -> None:
    albums = read_tags(shared_data("flickr_albums"))
    assert (len(albums), sum(map(bool, albums)), sum(map(len, albums))) == (601, 501, 7573)
    species = count_tags(read_tags(shared_data("yfcc100m") / "yfcc100m_geolocated_inat2017species.csv.gz"))
    assert sum(species.values()) == 36_143
    assert max(species.values()) == 10  # at most ten photographs of each were kept
    assert len(read_tags(shared_data("yfcc100m") / "yfcc100m_dataset_sample.tsv")) == 4


# metadata


def line(number: int, *, user: str = "u", name: str = "me", device: str = "", tags: str = "", place: str = "\t") -> str:
    fields = [str(number), user, name, "2010-01-01 00:00:00.0", "1262304000", device, "t", "", tags, ""]
    return "\t".join([*fields, *place.split("\t"), "16", *"abcd", "1", "2", "s", "so", "jpg", "0"])


def photo(number: int, row: int = 0, **fields: str) -> PhotoMetadata:
    return parse_metadata(line(number, **fields), row)


def test_images_are_matched_by_number_or_by_line() -> None:
    table = MetadataTable((photo(71, 0), photo(72, 1), photo(99, 2)))
    by_number = ImageSet("pool", ["00000072", "00000071", "odd"], NoReader())
    assert {row: p.identifier for row, p in match_photos(by_number, table).items()} == {0: 72, 1: 71}
    by_line = ImageSet("pool", ["00000002", "00000000"], NoReader())
    assert {row: p.identifier for row, p in match_photos(by_line, table).items()} == {0: 99, 1: 71}
    old = MetadataTable((photo(71, 0), photo(2, 1), photo(99, 2)))  # a photograph whose number is another's line
    assert {row: p.identifier for row, p in match_photos(by_line, old).items()} == {0: 99, 1: 71}
    assert match_photos(ImageSet("pool", ["cat.jpg"], NoReader()), table) == {}


def test_fields_are_taken_by_their_rules() -> None:
    photos = {
        0: photo(1, tags="rare,cat", device="Canon", place="10.7\t43.2", user="a"),
        1: photo(2, tags="CAT,dog", place="-151.2\t-33.5"),
        2: photo(3, tags="", device="Nikon"),
    }
    assert field_values(photos, "hashtag") == {0: "cat", 1: "cat"}
    assert field_values(photos, "device") == {0: "Canon", 2: "Nikon"}
    assert field_values(photos, "gps") == {0: (43, 10), 1: (-34, -152)}
    assert field_values(photos, "user") == {0: "a", 1: "u", 2: "u"}
    assert cell_of(photos[1]) == (-34, -152)
    with pytest.raises(ValueError, match="unknown field 'weather'"):
        field_values(photos, "weather")


def test_purity_by_hand() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2])
    assert purity(clusters, np.array([5, 5, 6, 6, 7, 7])) == pytest.approx((2 + 1 + 1) / 6)


def test_agreement_is_mutual_information_and_chance_is_what_remains_without_any() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 12, 600)
    same = {row: f"value {clusters[row] // 2}" for row in range(600)}
    found = agreement(clusters, same, seed=0)
    assert found.purity == 1.0
    # six values of twelve clusters: H(values | clusters) = 0, so NMI = 2 I / (H + H') with I = H(values)
    h_values, h_clusters = (entropy(x) for x in (list(same.values()), clusters.tolist()))
    assert found.nmi == pytest.approx(2 * h_values / (h_values + h_clusters))
    nothing = {row: int(value) for row, value in enumerate(rng.integers(0, 6, 600))}
    unrelated = agreement(clusters, nothing, seed=0)
    # both are what twelve clusters and six values give by chance; they differ by a few standard errors
    assert abs(unrelated.nmi - unrelated.chance_nmi) < 0.02
    assert abs(unrelated.ami) < 0.02
    assert unrelated.n == 600


def entropy(values: list[object]) -> float:
    shares = np.array(list(Counter(values).values())) / len(values)
    return float(-(shares * np.log(shares)).sum())


def test_agreement_needs_two_photographs() -> None:
    with pytest.raises(ValueError, match="at least two photographs"):
        agreement(np.array([0, 1]), {0: "x"}, seed=0)


def test_dominated_clusters_are_ranked_by_share_with_one_for_each_value() -> None:
    clusters = np.array([0] * 4 + [1] * 4 + [2] * 4 + [3] * 2)
    tags = ["cat", "cat", "cat", "dog", "cat", "cat", "x", "y", "sea", "sea", "sea", "sea", "top", "top"]
    photos = {row: photo(row + 1, tags=tag) for row, tag in enumerate(tags)}
    found = dominated_clusters(clusters, photos, "hashtag", smallest=4, count=5)
    assert [(d.cluster, d.value, d.share) for d in found] == [(2, "sea", 1.0), (0, "cat", 0.75)]
    assert dominated_clusters(clusters, photos, "hashtag", smallest=4, count=1)[0].value == "sea"
    places = {0: photo(1, place="10.7\t43.2"), 1: photo(2, place="10.1\t43.9")}
    untagged = {**photos, 4: photo(5), 5: photo(6), 6: photo(7), 7: photo(8)}
    found = dominated_clusters(clusters, untagged, "hashtag", smallest=4, count=5)
    assert [d.cluster for d in found] == [2, 0]  # where nobody gave a hashtag none dominates
    (cell,) = dominated_clusters(clusters, places, "gps", smallest=2, count=3)
    assert (cell.value, cell.share, cell.size) == ("GPS (43, 10)", 0.5, 4)
