"""Figures: what is drawn is what the records hold, and the words say the same."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy.ndimage import correlate
from synthetic_records import METHODS, make_curve, make_probes, make_training

from dclib import paper
from dclib.data.images import ImageSet
from dclib.report import figures, pictures

RISING = [50.0 + i for i in range(13)]
FALLING = [60.0 - i for i in range(13)]


class MadePictures:
    """Pictures of one colour each, by number."""

    def read(self, image_id: str) -> bytes:
        buffer = io.BytesIO()
        number = int(image_id)
        Image.new("RGB", (40, 30), (number * 7 % 256, number * 3 % 256, number)).save(buffer, format="PNG")
        return buffer.getvalue()

    def sizes(self, image_ids: list[str]) -> np.ndarray:
        return np.ones(len(image_ids), dtype=np.int64)


def make_images(n: int = 60, *, labelled: bool = True) -> ImageSet:
    labels = np.arange(n) % 3 if labelled else None
    return ImageSet(
        "made", [str(i) for i in range(n)], MadePictures(), labels, ("ant", "bee", "cat") if labelled else ()
    )


def line_data(ax: Axes) -> list[tuple[str, list[float]]]:
    lines = [line for line in ax.lines if len(line.get_ydata()) > 1 and line.get_linestyle() != "None"]  # no caps
    return [(line.get_linestyle(), list(line.get_ydata())) for line in lines]


def test_each_method_keeps_one_look_that_no_other_has() -> None:
    looks = [figures.look_of(method) for method in (*METHODS, "deepercluster_hierarchy")]
    assert len({look.color for look in looks}) == len({look.marker for look in looks}) == len(looks)


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2, from #rrggbb."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_each_colour_is_seen_on_white() -> None:
    """Contrast of at least 1.9 to white: markers tell lines apart where colour does not."""
    for method in (*METHODS, "deepercluster_hierarchy"):
        assert 1.05 / (luminance(figures.look_of(method).color) + 0.05) > 1.9


def test_accuracy_is_drawn_as_mean_over_seeds() -> None:
    records = [r for seed in (0, 1) for r in make_curve("rotnet", seed, [v + 2 * seed for v in FALLING])]
    ax = figures.plot_accuracy_against_depth(records, "objects")
    assert line_data(ax) == [("-", [v + 1 for v in FALLING])]
    # the bars reach one standard deviation, sqrt(2), to both sides of the mean
    bars = [segment for container in ax.containers for segment in container[2][0].get_segments()]
    assert [top[1] - bottom[1] for bottom, top in bars] == pytest.approx([2 * 2**0.5] * 13)


def test_a_variant_far_below_does_not_press_the_methods_together() -> None:
    low = make_probes({"deepercluster_rgb": [3.0] * 13})
    records = make_probes({"rotnet": FALLING, "deepercluster": RISING})
    main = figures.plot_accuracy_against_depth(records, "objects")
    assert main.get_ylim() == figures.plot_accuracy_against_depth(records + low, "objects").get_ylim()
    variants = figures.plot_beside(records + low, "objects", "variants", limits=main.get_ylim())
    assert variants.get_ylim() == main.get_ylim()
    assert [text.get_text() for text in variants.texts] == ["DeeperCluster, RGB ↓ 3 %"]
    assert line_data(figures.plot_accuracy_against_depth(low, "objects"))  # nothing but a variant is still drawn
    assert figures.kinds_beside(records + low, "objects") == ["variants"]
    assert figures.kinds_beside(records, "objects") == []
    assert figures.kinds_beside(low, "objects") == []
    words = figures.describe_accuracy_against_depth(records + low, "objects", kind="variants")
    assert "DeeperCluster, RGB 3.0 %" in words
    assert "RotNet" not in words


def test_curves_that_end_together_have_names_apart_and_inside() -> None:
    ends = {m: 50.0 + i / 10 for i, m in enumerate(METHODS)} | {"random": 10.0}  # four in a hundredth of the axis
    ax = figures.plot_accuracy_against_depth(make_probes({m: [v] * 13 for m, v in ends.items()}), "objects")
    figure = ax.get_figure(root=True)
    figure.draw_without_rendering()
    boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)  # without its arrow
    assert len(boxes) == len(METHODS)
    for below, above in itertools.pairwise(boxes):
        assert below.y1 <= above.y0 + 2  # pixels of a line's own leading
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_places_are_spaced_and_as_near_as_they_can_be() -> None:
    assert figures.spaced([5.0, 1.0, 9.0], 2, 0, 10) == [5, 1, 9]  # nothing to do
    assert figures.spaced([5.0, 5.0, 5.5], 2, 0, 10) == [5, 7, 9]
    assert figures.spaced([-3.0, 10.0, 12.0], 2, 0, 10) == [0, 8, 10]
    assert figures.spaced([5.0] * 6, 4, 0, 10) == [0, 2, 4, 6, 8, 10]  # no room: evenly


def test_no_legend_covers_a_line_or_is_cut() -> None:
    training = make_training("deepercluster", 0, (0.2, 0.3))
    for ax in (
        figures.plot_cluster_agreement(training, "deepercluster"),
        figures.plot_cluster_sizes(training, "deepercluster"),
        figures.plot_class_counts({f"{'a long name of a set ' * 2}{i}": np.array([0, 1]) for i in range(3)}),
    ):
        figure = ax.get_figure(root=True)
        figure.draw_without_rendering()
        (key,) = figure.legends
        box = key.get_window_extent()
        assert box.y1 <= ax.get_window_extent().y0
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def lab(color: str) -> np.ndarray:
    """CIELAB of #rrggbb under D65."""
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    x, y, z = np.cbrt(matrix @ linear / [0.95047, 1, 1.08883])  # all our colours are far above the linear part
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_no_two_methods_look_nearly_alike() -> None:
    """CIE76 differences of 24 at least: two is what an eye can just tell side by side, in large patches."""
    colors = [look.color for look in (*figures.LOOKS.values(), figures.VARIANT_LOOK)]
    assert min(np.linalg.norm(lab(a) - lab(b)) for a, b in itertools.combinations(colors, 2)) > 24


def test_words_in_a_methods_colour_can_be_read() -> None:
    for look in (*figures.LOOKS.values(), figures.VARIANT_LOOK):
        color = "#" + "".join(f"{round(255 * c):02x}" for c in figures.darker(look.color))
        assert 1.05 / (luminance(color) + 0.05) > 4.4  # 4.5, and rounding to 8 bits


@pytest.mark.parametrize("half", paper.HALVES)
def test_the_papers_curves_are_drawn_as_published(half: paper.Half) -> None:
    ax = figures.plot_published_accuracy(half)
    assert line_data(ax) == [("--", list(curve)) for curve in paper.table1(half).values()]


def test_axes_are_labelled_with_units() -> None:
    training = make_training("deepercluster", 0, (0.2, 0.3)) + make_training("deepercluster", 1, (0.2, 0.4))
    drawn = [
        figures.plot_accuracy_against_depth(make_probes({"rotnet": RISING}), "objects"),
        figures.plot_training_loss(training, "deepercluster"),
        figures.plot_cluster_agreement(training, "deepercluster"),
        figures.plot_cluster_sizes(training, "deepercluster"),
        figures.plot_class_counts({"pool": np.array([0, 0, 1])}),
    ]
    units = ["%", "nats", "0 to 1", "images", "images"]
    for ax, unit in zip(drawn, units, strict=True):
        assert ax.get_xlabel()
        assert unit in ax.get_ylabel()


def test_figures_are_opaque_and_white() -> None:
    """A transparent figure cannot be read in dark mode."""
    images = make_images()
    clusters = [{"cluster": 1, "size": 9, "images": images.ids[:9]}]
    for figure in (
        figures.plot_published_accuracy("objects").figure,
        figures.plot_training_loss(make_training("rotnet", 0), "rotnet").figure,
        pictures.draw_contact_sheet(images, pictures.sample_rows(images, n_rows=3, per_row=4)).figure,
        pictures.draw_cluster_mosaics(images, clusters),
        pictures.draw_rotations(images[3]),
        pictures.draw_sobel(images[3]),
    ):
        assert isinstance(figure, Figure)
        assert figure.get_facecolor() == (1, 1, 1, 1)


def test_a_plot_draws_where_it_is_told() -> None:
    ax = figures.new_axes()
    assert figures.plot_training_loss(make_training("rotnet", 0), "rotnet", ax=ax) is ax


def test_words_on_accuracy_hold_the_plotted_numbers() -> None:
    records = make_probes({"rotnet": FALLING}, seeds=(0,))
    assert figures.describe_accuracy_against_depth(records, "objects") == (
        "Linear-probe accuracy against layer on objects, here. "
        "RotNet 60.0 % at conv1, best 60.0 % at conv1, 48.0 % at conv13."
    )
    assert figures.describe_accuracy_against_depth(records, "scenes").endswith("Not measured.")
    published = figures.describe_published_accuracy("objects")
    assert "DeeperCluster 7.4 % at conv1, best 49.2 % at conv12, 45.6 % at conv13" in published


def test_an_empty_half_can_be_drawn() -> None:
    assert not line_data(figures.plot_accuracy_against_depth([], "scenes"))


def test_the_loss_is_drawn_with_chance() -> None:
    records = make_training("rotnet", 0, losses=(2.0, 1.0)) + make_training("rotnet", 1, losses=(3.0, 2.0))
    ax = figures.plot_training_loss(records, "rotnet")
    values = [ys for _, ys in line_data(ax)]
    assert [2.5, 1.5] in values  # the mean
    assert [4.85] * 4 in values
    assert ax.texts[0].get_text() == "chance, ln(classes) = 4.85"
    words = figures.describe_training_loss(records, "rotnet")
    assert words == (
        "Training loss of RotNet goes from 2.50 at epoch 1 to 1.50 nats at epoch 2, median over 2 seeds. "
        "Chance is 4.85 nats."
    )


def test_agreement_is_drawn_per_seed_and_on_the_mean() -> None:
    records = make_training("deepercluster", 0, (0.2, 0.3, 0.5)) + make_training("deepercluster", 1, (0.4, 0.5, 0.6))
    values = [ys for _, ys in line_data(figures.plot_cluster_agreement(records, "deepercluster"))]
    assert [0.2, 0.3, 0.5] in values
    assert [0.4, 0.5, 0.6] in values
    assert any(ys == pytest.approx([0.3, 0.4, 0.55]) for ys in values)
    assert "from 0.30 at clustering 0 to 0.55 at clustering 2, median over 2 seeds" in (
        figures.describe_cluster_agreement(records, "deepercluster")
    )


def test_seeds_of_different_length_are_averaged_where_all_have_a_value() -> None:
    records = make_training("deepercluster", 0, (0.2, 0.3, 0.5)) + make_training("deepercluster", 1, (0.4, 0.5))
    values = [ys for _, ys in line_data(figures.plot_cluster_agreement(records, "deepercluster"))]
    assert any(ys == pytest.approx([0.3, 0.4]) for ys in values)


def test_cluster_sizes_are_drawn_and_said() -> None:
    records = make_training("deepercluster", 0, (0.2, 0.3))
    lines = line_data(figures.plot_cluster_sizes(records, "deepercluster"))
    values = dict(zip(("largest", "median", "smallest"), lines, strict=True))
    assert values["largest"][1] == [900.0, 910.0]
    assert values["smallest"][1] == [12.0, 12.0]
    assert "smallest 12, median 300, largest 910" in figures.describe_cluster_sizes(records, "deepercluster")


def test_class_counts_are_sorted_and_leave_out_empty_classes() -> None:
    labels = np.array([5, 5, 5, 2, 2, 9])
    assert line_data(figures.plot_class_counts({"pool": labels}))[0][1] == [3, 2, 1]
    assert figures.describe_class_counts({"pool": labels}).endswith("pool: 3 classes of 3 to 1 images.")


def test_rows_of_a_contact_sheet_are_of_their_class() -> None:
    images = make_images()
    rows = pictures.sample_rows(images, n_rows=2, per_row=5)
    assert list(rows) == ["ant", "cat"]  # evenly spread over the three classes
    assert all(images.classes[images.labels[i]] == name for name, row in rows.items() for i in row)
    assert rows == pictures.sample_rows(images, n_rows=2, per_row=5)


@pytest.mark.parametrize("n", [1, 7, 60])
def test_a_set_without_labels_fills_unnamed_rows_with_no_image_twice(n: int) -> None:
    rows = pictures.sample_rows(make_images(n, labelled=False), n_rows=4, per_row=4)
    shown = list(itertools.chain.from_iterable(rows.values()))
    assert len(shown) == len(set(shown)) == min(n, 16)
    assert not any(name.strip() for name in rows)
    assert pictures.draw_contact_sheet(make_images(n, labelled=False), rows).images


def test_tiles_stand_in_their_places() -> None:
    tiles = [[np.full((2, 2, 3), 10 * i + j, dtype=np.uint8) for j in range(3 - i)] for i in range(2)]
    sheet = pictures.join_tiles(tiles, 2)
    pitch = 2 + pictures.GAP
    for i, row in enumerate(tiles):
        for j in range(len(row)):
            top, left = pictures.GAP + i * pitch, pictures.GAP + j * pitch
            assert (sheet[top : top + 2, left : left + 2] == 10 * i + j).all()
    assert (sheet[pictures.GAP + pitch :, pictures.GAP + 2 * pitch :] == 255).all()  # the missing tile
    assert (sheet[: pictures.GAP] == 255).all()


def test_mosaics_show_the_named_images_and_say_what_they_are() -> None:
    images = make_images()
    clusters = [
        {"cluster": 4, "size": 1200, "images": images.ids[0:27:3]},  # nine of class ant
        {"cluster": 7, "size": 30, "images": images.ids[:9]},
    ]
    figure = pictures.draw_cluster_mosaics(images, clusters)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["4 (1,200)", "7 (30)"]
    shown = figure.axes[0].images[0].get_array()
    first = np.asarray(images[0])[0, 0]
    assert (shown[pictures.GAP + 5, pictures.GAP + 5] == first).all()
    words = pictures.describe_cluster_mosaics(images, clusters)
    assert words.startswith(
        "Mosaics of 2 clusters: cluster 4 of 1,200 images, 9 of 9 ant; cluster 7 of 30 images, 3 of 9"
    )


def test_an_image_that_is_not_in_the_set_is_named() -> None:
    with pytest.raises(ValueError, match=r"1 pictured images are not in made, first 'gone'"):
        pictures.draw_cluster_mosaics(make_images(), [{"cluster": 0, "size": 1, "images": ["gone"]}])


def test_rotations_turn_counter_clockwise() -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[0, :, 0] = 255  # red along the top
    figure = pictures.draw_rotations(Image.fromarray(pixels), tile=8)
    reds = [np.asarray(ax.images[0].get_array())[:, :, 0] > 128 for ax in figure.axes]
    assert [r[0].all() for r in reds] == [True, False, False, False]
    assert [r[:, 0].all() for r in reds] == [False, True, False, False]  # a quarter turn: top goes left
    assert [r[-1].all() for r in reds] == [False, False, True, False]
    assert [r[:, -1].all() for r in reds] == [False, False, False, True]


def test_sobel_agrees_with_scipy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    grey = pixels.astype(np.float64).mean(axis=2) / 255
    kernel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    expected = [correlate(grey, k, mode="nearest") for k in (kernel, kernel.T)]
    # float64 sums of six numbers below 2
    np.testing.assert_allclose(pictures.sobel_channels(pixels), expected, rtol=0, atol=1e-14)


def test_a_flat_image_has_no_gradient_and_can_be_drawn() -> None:
    flat = Image.new("RGB", (20, 20), (10, 200, 30))
    # the two sums hold the same six numbers, in an order that differs at their last bit
    assert np.abs(pictures.sobel_channels(np.asarray(flat))).max() < 1e-14
    assert len(pictures.draw_sobel(flat).axes) == 3


def test_colour_without_light_gives_no_gradient() -> None:
    """Equal weights: red to green at equal sum is no edge to the network."""
    pixels = np.zeros((6, 6, 3), dtype=np.uint8)
    pixels[:, :3, 0], pixels[:, 3:, 1] = 120, 120
    assert np.abs(pictures.sobel_channels(pixels)).max() < 1e-14


def test_no_description_is_a_bare_template() -> None:
    records = make_probes({"rotnet": RISING}) + make_training("deepercluster", 0, (0.1, 0.2))
    for words in (
        figures.describe_accuracy_against_depth(records, "objects"),
        figures.describe_training_loss(records, "deepercluster"),
        figures.describe_cluster_agreement(records, "deepercluster"),
        figures.describe_cluster_sizes(records, "deepercluster"),
    ):
        assert re.search(r"\d", words)
        assert not re.search(r"[{}]|nan|None", words)
