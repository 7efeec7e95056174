"""Records of runs that never happened, for tests of what is made from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dclib.records import Record, RunCard

METHODS = ("supervised", "deepercluster", "deepcluster", "rotnet", "random")


def make_card(method: str, seed: int, stage: str = "linear_probe", **changes: object) -> RunCard:
    values: dict[str, object] = {
        "stage": stage,
        "preset": "made-up",
        "method": method,
        "seed": seed,
        "config_hash": f"config-{method}",
        "data_hash": "data",
        "code_hash": "code",
        "device": "cpu (2 threads)",
        "seconds": 30.0,
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.12.0", "torch": "2.14.0"},
    }
    return RunCard(**{**values, **changes})  # type: ignore[arg-type]


def make_curve(
    method: str, seed: int, curve: Sequence[float], dataset: str = "objects", n: int = 2000, **card: object
) -> list[Record]:
    """Thirteen probe accuracies of one network."""
    origin = make_card(method, seed, **card)
    return [
        Record(name="top1", value=value, unit="%", n=n, keys={"dataset": dataset, "layer": layer}, card=origin)
        for layer, value in enumerate(curve, start=1)
    ]


def make_probes(
    curves: Mapping[str, Sequence[float]], seeds: Sequence[int] = (0, 1, 2), dataset: str = "objects"
) -> list[Record]:
    """The same curves in every seed, shifted by a hundredth of a point per seed so that a spread exists."""
    return [
        record
        for method, curve in curves.items()
        for seed in seeds
        for record in make_curve(method, seed, [v + 0.01 * seed for v in curve], dataset)
    ]


def make_training(
    method: str, seed: int, nmi: Sequence[float] = (), losses: Sequence[float] = (2.0, 1.5, 1.0), n: int = 16_000
) -> list[Record]:
    """Records of one pre-training: epochs, and clusterings where ``nmi`` is given."""
    card = make_card(method, seed, stage="pretrain")
    made: list[tuple[str, float, str, dict[str, int]]] = []
    for epoch, loss in enumerate(losses, start=1):
        made += [("loss", loss, "nats", {"epoch": epoch}), ("chance_loss", 4.85, "nats", {"epoch": epoch})]
        made.append(("images_per_second", 1500.0, "images/s", {"epoch": epoch}))
    for assignment, value in enumerate(nmi):
        keys = {"assignment": assignment, "epoch": assignment}
        made += [("nmi_labels", value, "1", keys), ("empty_clusters", 0.0, "clusters", keys)]
        made += [("smallest_cluster", 12.0, "images", keys), ("median_cluster", 300.0, "images", keys)]
        made.append(("largest_cluster", 900.0 + 10 * assignment, "images", keys))
        if assignment:
            made.append(("nmi_previous", 0.4 + 0.01 * assignment, "1", keys))
    made.append(("pretrain_seconds", 61.0, "s", {}))
    return [Record(name=name, value=v, unit=u, n=n, keys=keys, card=card) for name, v, u, keys in made]
