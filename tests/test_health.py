"""What a run says about itself: numbers against scikit-learn and by hand, and warnings where they belong."""

import io
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from dclib.cluster.pseudo_labels import Clustering, PseudoLabels
from dclib.train import health
from dclib.train.chance import TASKS, at_chance


def clustering_of(super_cluster: list[int], sub_class: list[int], n_super: int, n_sub: int) -> Clustering:
    labels = PseudoLabels(torch.tensor(super_cluster), torch.tensor(sub_class), n_super, n_sub)
    return Clustering(labels, 0.25, 0.9, 8, "torch", ())


def test_sizes_are_counted_over_both_levels():
    # clusters 0-2 belong to super-cluster 0, 3-5 to 1: sizes 3, 1, 0, 2, 0, 4
    clustering = clustering_of([0] * 4 + [1] * 6, [0, 0, 0, 1, 0, 0, 2, 2, 2, 2], 2, 3)
    assert health.clustering_values(clustering, None, None) == {
        "empty_clusters": 2.0,
        "smallest_cluster": 1.0,  # of those that are not empty: 1, 2, 3, 4
        "median_cluster": 2.0,  # the lower of the two in the middle
        "largest_cluster": 4.0,
        "inertia": 0.25,
        "explained_variance": 0.9,
    }


def test_agreement_is_scikit_learns():
    rng = torch.Generator().manual_seed(0)
    draws = [torch.randint(high, (200,), generator=rng).tolist() for high in (2, 5, 2, 5, 7)]
    now, before = clustering_of(draws[0], draws[1], 2, 5), clustering_of(draws[2], draws[3], 2, 5)
    values = health.clustering_values(now, before.labels, torch.tensor(draws[4]))
    names = {
        "now": [f"{c}/{z}" for c, z in zip(draws[0], draws[1], strict=True)],
        "before": [f"{c}/{z}" for c, z in zip(draws[2], draws[3], strict=True)],
    }
    assert values["nmi_previous"] == pytest.approx(normalized_mutual_info_score(names["before"], names["now"]))
    assert values["nmi_labels"] == pytest.approx(normalized_mutual_info_score(draws[4], names["now"]))
    assert values["ami_labels"] == pytest.approx(adjusted_mutual_info_score(draws[4], names["now"]))
    # unrelated: NMI is biased upwards with so many clusters, AMI is not
    assert values["nmi_labels"] > 0.05
    assert abs(values["ami_labels"]) < 0.05


def test_agreement_does_not_depend_on_the_numbers_of_clusters():
    one, renamed = clustering_of([0] * 6, [0, 0, 1, 1, 2, 2], 1, 3), clustering_of([0] * 6, [2, 2, 0, 0, 1, 1], 1, 3)
    values = health.clustering_values(one, renamed.labels, torch.tensor([5, 5, 3, 3, 4, 4]))
    assert [values[k] for k in ("nmi_previous", "nmi_labels", "ami_labels")] == pytest.approx([1.0, 1.0, 1.0])


def test_same_sub_class_number_in_another_super_cluster_is_another_cluster():
    one, two = clustering_of([0, 0, 1, 1], [0, 0, 0, 0], 2, 2), clustering_of([0, 0, 0, 0], [0, 0, 0, 0], 2, 2)
    assert health.clustering_values(one, two.labels, None)["nmi_previous"] == pytest.approx(0.0)
    assert health.clustering_values(one, None, torch.tensor([1, 1, 0, 0]))["nmi_labels"] == pytest.approx(1.0)


def test_chance_is_the_loss_of_uniform_predictions():
    for s, k in [(1, 10), (4, 1), (16, 80_000)]:
        uniform_super, uniform_sub = torch.full((1, s), -2.0), torch.full((1, k), 3.0)
        target = torch.zeros(1, dtype=torch.int64)
        loss = torch.nn.functional.cross_entropy(uniform_super.double(), target)
        loss += torch.nn.functional.cross_entropy(uniform_sub.double(), target)
        assert health.chance_loss(s, k) == pytest.approx(float(loss))
    assert health.chance_loss(4, 1) == pytest.approx(1.3862943611)


def test_epoch_line_tells_loss_chance_accuracies_and_rate():
    values = {"loss": 1.25, "lr": 0.05, "images_per_second": 512.4, "turn_accuracy": 61.04, "turn_chance": 25.0}
    line = health.epoch_line(3, 20, {**values, "sub_accuracy": 27.0, "sub_chance": 100 / 6}, math.log(24), 16_000)
    assert line == "epoch 3/20: loss 1.250 (chance 3.178), turn 61.0 %, sub 27.0 %, 512 images/s"


@pytest.mark.parametrize("task", ["turn", "super", "sub", "train"])
def test_epoch_line_warns_of_each_task_at_chance(task):
    """The loss is far below chance: another task is learned well."""
    values = {"loss": 2.5, "images_per_second": 1.0, "turn_accuracy": 90.0, "turn_chance": 25.0}
    values |= {f"{task}_accuracy": 26.7, f"{task}_chance": 25.0}
    line = health.epoch_line(6, 6, values, math.log(4 * 32), 16_000)
    assert line.count("WARNING") == 1
    assert f"WARNING: {TASKS[task]} at chance (26.7 %, a guess 25.0 %)" in line
    assert "WARNING" not in health.epoch_line(6, 6, {**values, f"{task}_accuracy": 38.0}, math.log(128), 16_000)


@pytest.mark.parametrize(
    ("accuracy", "chance", "n", "expected"),
    [
        (30.0, 25.0, 10**6, True),  # exactly 1.2 times a guess
        (30.1, 25.0, 10**6, False),
        (40.0, 25.0, 100, True),  # 25 right by a guess, with a deviation of 5: up to 40 may be luck
        (41.0, 25.0, 100, False),
        (0.0, 0.01, 10, True),
        (100.0, 50.0, 40, False),
    ],
)
def test_at_chance_by_hand(accuracy, chance, n, expected):
    assert at_chance(accuracy, chance, n) is expected


def test_guessing_is_found_to_be_guessing():
    """Four deviations of 2,000 guessers beyond three of each: fewer than 1 in 100 may seem to have learned."""
    rng = np.random.default_rng(0)
    for chance, n in ((25.0, 640), (3.125, 1600), (12.5, 16_000)):
        right = rng.binomial(n, chance / 100, size=2000)
        learned = sum(not at_chance(100 * hits / n, chance, n) for hits in right)
        assert learned < 20


@pytest.mark.parametrize(("wait", "told"), [(0.0, ""), (0.1, ""), (0.34, ", 34% of the time waiting for images")])
def test_epoch_line_tells_of_a_long_wait_for_images(wait, told):
    values = {"loss": 1.25, "images_per_second": 512.4}
    line = health.epoch_line(3, 20, values, math.log(24), 100, wait)
    assert line == f"epoch 3/20: loss 1.250 (chance 3.178), 512 images/s{told}"


def test_the_wait_for_batches_is_timed_and_that_for_their_use_is_not(monkeypatch):
    now = 0

    def spend(seconds):
        nonlocal now
        now += seconds

    def slow_batches():
        for i in range(3):
            spend(2 + i)
            yield torch.tensor([i])
        spend(7)  # finding out that there is no more is waiting, too

    monkeypatch.setattr(time, "monotonic", lambda: now)
    waits, found = [], []
    for batch in health.timed(slow_batches(), waits.append):
        spend(100)
        found.append(int(batch))
    assert found == [0, 1, 2]
    assert waits == [2, 3, 4, 7]


@pytest.mark.parametrize(("loss", "stuck"), [(1.40, True), (1.387, True), (1.37, True), (1.35, False), (0.0, False)])
def test_loss_at_chance_is_warned_of(loss, stuck):
    """More than 98 % of ln 4 = 1.386, which is 1.3586."""
    line = health.epoch_line(1, 2, {"loss": loss, "images_per_second": 1.0}, math.log(4), 100)
    assert ("WARNING" in line) is stuck
    assert ("learning rate" in line) is stuck


@pytest.mark.parametrize(("largest", "collapsed"), [(100, True), (51, True), (50, False), (10, False)])
def test_one_cluster_with_most_images_is_warned_of(largest, collapsed):
    rest = [1 + i % 10 for i in range(100 - largest)]
    values = health.clustering_values(clustering_of([0] * 100, [0] * largest + rest, 1, 12), None, None)
    line = health.clustering_line(values, 100, "faiss")
    assert ("WARNING" in line) is collapsed
    assert ("collapsed" in line) is collapsed
    assert line.startswith("clustering (faiss): ")


def test_clustering_line_tells_agreement_where_there_is_one():
    values = {"empty_clusters": 1.0, "smallest_cluster": 2.0, "median_cluster": 3.0, "largest_cluster": 4.0}
    assert health.clustering_line(values, 100, "torch") == (
        "clustering (torch): 1 empty, sizes 2 / 3 / 4 (smallest / median / largest)"
    )
    line = health.clustering_line({**values, "nmi_previous": 0.5, "nmi_labels": 0.25}, 100, "torch")
    assert line.endswith("NMI with the previous one 0.500, with labels (display only) 0.250")


@pytest.mark.parametrize(("variances", "rank", "collapsed"), [((1.0, 1.0, 1.0), 3.0, False), ((1.0, 1e-3), 1.0, True)])
def test_axes_that_features_use_are_told_and_a_line_of_them_is_warned_of(variances, rank, collapsed):
    clustering = replace(clustering_of([0] * 4, [0, 1, 2, 3], 1, 4), variances=torch.tensor(variances))
    values = health.clustering_values(clustering, None, None)
    assert values["effective_rank"] == pytest.approx(rank, abs=0.01)
    line = health.clustering_line(values, 4, "torch")
    assert f"features use {rank:.1f} axes" in line
    assert ("WARNING: the features lie along one line" in line) is collapsed


def test_stopwatch_goes_on_from_earlier_sittings(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = health.Stopwatch(7.5)
    now[0] = 52.0
    assert watch.seconds == pytest.approx(9.5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_is_shown_on_a_terminal_and_nowhere_else(monkeypatch, kind):
    stream = kind()
    monkeypatch.setattr("sys.stderr", stream)
    assert list(health.steps_with_progress(range(2, 7), 16, "epoch 1")) == [2, 3, 4, 5, 6]
    assert ("epoch 1" in stream.getvalue()) is (kind is Terminal)
