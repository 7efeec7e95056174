"""The whole supplement at the paper's scale: the networks that Tables 1 to 4 need, and what they and their tests cost.

Which network a row of a table needs follows from :mod:`dclib.paper`'s tables and the settings of :data:`PRESETS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dclib.config import Preset
from dclib.paper import (
    NAMES,
    SCALES,
    TABLE1,
    TABLE2,
    TABLE2_METHODS,
    TABLE3,
    TABLE3_METHODS,
    TABLE4,
    TABLE4_COLUMNS,
    TABLE4_METHODS,
)
from dclib.planner.hardware import Hardware
from dclib.planner.pages import table_seconds, validation_seconds
from dclib.planner.plan import IMAGENET, Plan, make_plan
from dclib.planner.words import aligned, duration, hours, hours_of, rests_on
from dclib.presets import load_preset

PRESETS = ("tables1to3", "deepcluster_yfcc1m", "table4_rotnet", "table4_deepercluster")
PLACES205 = 2_448_873, 20_500  # images and test images
YFCC100M = int(SCALES[0].sizes["images shown"])
IMAGES = {
    "pool": YFCC100M,
    **dict(
        zip(("objects_train", "objects_test", "scenes_train", "scenes_test"), (*IMAGENET[:2], *PLACES205), strict=True)
    ),
}  # in the sets of the paper
COLUMNS = ("preset", "method", "tables", "images", "training", "bottleneck", "validations")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A network that a row of a table is about; without a preset it is somebody else's, whose number is copied.

    So are Table 3's two methods from before the paper: it took their authors' networks, for which it states no
    settings, and one of them learned from nine million clips. Ours stand in these rows at other sizes.
    """

    table: int
    row: str  # as in paper.published_numbers
    column: str = ""  # where the columns of a row are of different networks
    preset: str = ""
    method: str = ""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one network costs, and its tests; one seed. Seconds of all processes together are called spent."""

    preset: str
    method: str
    plan: Plan | None  # of its pre-training; None where it is not trained
    validating: float  # seconds of the validations that decide when training ends, at most; all processes make them
    testing: Mapping[int, float]  # table -> seconds of one process

    @property
    def spent(self) -> float:
        """In pre-training."""
        return self.plan.work.processes * (self.plan.training_seconds + self.validating) if self.plan else 0.0

    @property
    def command(self) -> str:
        """What trains it; empty where nothing has to be trained."""
        if self.plan is None:
            return ""
        many = f" --processes {self.plan.work.processes}" if self.plan.work.processes > 1 else ""
        return f"python -m dclib pretrain --preset {self.preset} --method {self.method}{many}"


@dataclass(frozen=True)
class Supplement:
    """The prices of all networks, each once, in the order in which the tables need them."""

    hardware: Hardware
    processes: int
    prices: tuple[Price, ...]

    @property
    def tables(self) -> list[int]:
        return sorted({table for price in self.prices for table in price.testing})

    @property
    def refusal(self) -> str:
        """A sentence about the first network that does not fit; empty where all do."""
        refused = (f"{p.preset}, {p.method}: {p.plan.refusal}" for p in self.prices if p.plan and p.plan.problems)
        return next(refused, "")

    @property
    def spent(self) -> float:
        """In everything, each network trained once."""
        return sum(price.spent + sum(price.testing.values()) for price in self.prices)

    def training_of(self, table: int) -> float:
        """Spent in pre-training all networks that a table needs; other tables may need them too."""
        return sum(price.spent for price in self.prices if table in price.testing)

    def testing_of(self, table: int) -> float:
        """Spent in filling a table from trained networks."""
        return sum(price.testing.get(table, 0.0) for price in self.prices)


def needed_networks(presets: Sequence[Preset] = ()) -> list[Needed]:
    """A network for each row of Tables 1 to 4, and for each column of Table 4."""
    presets = presets or [load_preset(name) for name in PRESETS]
    return [
        Needed(table=table, row=row, column=column, method=method, preset=_preset_of(table, method, images, presets))
        for table, row, column, method, images in _rows()
    ]


def _rows() -> Iterator[tuple[int, str, str, str, str]]:
    """Table, row, column, our name of the method (empty: somebody else's), and the images where the row says them."""
    ours = {name: method for method, name in NAMES.items()}
    for dataset, curves in TABLE1.items():
        yield from ((1, f"{dataset}, {name}", "", ours.get(name, ""), "") for name in curves)
    yield from ((2, row, "", TABLE2_METHODS.get(row, ""), "") for row in TABLE2)
    for of in TABLE3:
        yield 3, ", ".join(of), "", TABLE3_METHODS.get(of, ""), of[1]
    for of in TABLE4:
        for column, method in zip(TABLE4_COLUMNS, TABLE4_METHODS[of], strict=True):
            yield 4, ", ".join(of), column, method, of[1]


def _preset_of(table: int, method: str, images: str, presets: Sequence[Preset]) -> str:
    """The first preset with the method, and in Table 4 with the number of images that its row says: ``YFCC 20M``."""
    millions = int(images.removeprefix("YFCC ").removesuffix("M")) if table == 4 else None
    for preset in presets:
        if method in preset.methods and millions in (None, preset.data.pool_images / 1e6):
            return preset.name
    return ""


def price_supplement(
    hardware: Hardware,
    *,
    processes: int = 1,
    settings: Mapping[str, Any] | None = None,
    disk_bytes: float = float("inf"),
) -> Supplement:
    """The cost of every network of the supplement, pre-trained by ``processes``, and of the tests of its tables by one.

    Args:
        settings: Of every preset, to change.

    Raises:
        ValueError: a setting that cannot be. A network that does not fit is no error here: see :attr:`Plan.problems`.
    """
    presets = {name: load_preset(name, {**(settings or {}), "seeds": [0]}) for name in PRESETS}
    tables: dict[tuple[str, str], list[int]] = {}
    for need in needed_networks(list(presets.values())):
        if need.preset and need.table not in tables.setdefault((need.preset, need.method), []):
            tables[need.preset, need.method].append(need.table)
    given = {"processes": processes, "disk_bytes": disk_bytes}
    prices = [_price(presets[name], method, of, hardware, **given) for (name, method), of in tables.items()]
    return Supplement(hardware, processes, tuple(prices))


def _price(preset: Preset, method: str, tables: Sequence[int], hardware: Hardware, **given: Any) -> Price:
    """Of one network that some tables need; ``given`` as for :func:`make_plan`."""
    plan, images = None, preset.data.pool_images or YFCC100M
    labelled = IMAGENET if preset.data.objects_train else (0, 0, 0)
    if preset.method(method).method != "random":
        plan = make_plan(preset, method, hardware, n_images=images, labelled=labelled, **given)
    return Price(
        preset=preset.name,
        method=method,
        plan=plan,
        validating=validation_seconds(preset, method, hardware, IMAGES) if plan else 0.0,
        testing={table: table_seconds(preset, method, table, hardware, IMAGES) for table in tables},
    )


def supplement_lines(supplement: Supplement) -> list[str]:
    """All prices as text: a line for each network, one for each table, the total, and what the numbers rest on."""
    prices, unit = supplement.prices, hours_of(supplement.hardware)
    networks = aligned([(*COLUMNS, unit), *(network_row(price) for price in prices)])
    tables = aligned([("table", "its networks", "its tests"), *(table_row(supplement, n) for n in supplement.tables)])
    return [
        *networks,
        *(f"{line}{f'  ({unit})' if not i else ''}" for i, line in enumerate(tables)),
        f"The supplement's Tables 1 to 4 on {supplement.processes} x {supplement.hardware.name}: "
        f"{hours(supplement.spent)} {unit} in all, each network trained once.",
        f"Estimates, a seed. {rests_on(supplement.hardware)}",
    ]


def network_row(price: Price) -> tuple[str, ...]:
    """Under :data:`COLUMNS`, and all hours of pre-training."""
    plan = price.plan
    if plan is None:
        return price.preset, price.method, _listed(price.testing), *["none"] * 4, "0"
    return (
        price.preset,
        price.method,
        _listed(price.testing),
        f"{plan.work.n_images:,}",
        duration(plan.training_seconds),
        plan.slowest_of_training.bottleneck,
        duration(price.validating) if price.validating else "none",
        hours(price.spent),
    )


def table_row(supplement: Supplement, table: int) -> tuple[str, ...]:
    """A table, and hours of its networks and of its tests."""
    return str(table), hours(supplement.training_of(table)), hours(supplement.testing_of(table))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
