"""The page of the planner: what the paper's run and the preset at hand cost, as tables and bars."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from dclib.config import Preset
from dclib.machine import count_cores
from dclib.paper import SCALES
from dclib.planner.calibration import kept_machine
from dclib.planner.hardware import Hardware, hardware_named
from dclib.planner.pages import stage_seconds
from dclib.planner.plan import COLUMNS, Plan, make_plan, plan_rows, summary
from dclib.planner.supplement import COLUMNS as PRICE_COLUMNS
from dclib.planner.supplement import Supplement, network_row, price_supplement, table_row
from dclib.planner.words import duration, hours, hours_of, rests_on
from dclib.presets import load_preset
from dclib.records import Record, select
from dclib.report.display import Fragment, say, show
from dclib.report.figures import SIZE, finish, key_below, new_axes
from dclib.report.scaling import ABSENT, BENCHMARKS, origin
from dclib.report.seen import Lines, shown
from dclib.report.series import cards_of, plural, title_of
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

PAPER_PRESET, PAPER_METHOD = "deepercluster_yfcc100m", "deepercluster"
PAPER_IMAGES = int(SCALES[0].sizes["images shown"])  # of YFCC100M, each shown once at least
MACHINES = (("v100-16gb", 64), ("v100-32gb", 64), ("h100", 8))
PRICED_ON = (("h100", 8), ("a100-80gb", 8))  # one machine of each
SHOWN = ("phase", "in all", "bottleneck", "device", "RAM", "disk", "sent")  # what a page's column is wide enough for
ACCURACY = "plan_accuracy"
NEAR = {"plan_seconds": 0.30, "plan_memory": 0.15}  # how far from what was measured a plan may be, as a share of it
STAGES = {
    "pretrain": "Pre-training",
    "linear_probe": "Linear probes",
    "finetune": "Fine-tuning",
    "voc": "Pascal VOC",
    "choice": "Choosing a setting",
}
SHADES = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377")  # Tol's bright: told apart by all


def paper_plans() -> dict[str, Plan]:
    """The paper's run on several machines, under what each is called."""
    preset = load_preset(PAPER_PRESET)
    return {
        f"{count} x {gpu}": make_plan(preset, PAPER_METHOD, hardware_named(gpu), processes=count, n_images=PAPER_IMAGES)
        for gpu, count in MACHINES
    }


def machine_at_hand() -> Hardware:
    """This machine as its runs have measured it, with a page's threads; else the CPU of the published record."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return kept_machine(int(threads) if threads.isdecimal() else count_cores()) or hardware_named("cpu")


def preset_plans(preset: Preset) -> dict[str, Plan]:
    """Every method of a preset that trains, on one process here; none where images have to be counted first."""
    if preset.data.root and not preset.data.pool_images:
        return {}
    machine = machine_at_hand()
    trained = [name for name, config in preset.methods.items() if config.trains]
    return {title_of(name): make_plan(preset, name, machine) for name in trained}


def plan_table(plans: Mapping[str, Plan], caption: str) -> Table:
    """A group for each plan, a row for each of its phases; a plan that does not fit says so in its place."""
    hardware = {plan.work.hardware.name: plan.work.hardware for plan in plans.values()}
    return Table(
        caption=caption,
        columns=tuple(name.capitalize() if name == "phase" else name for name in SHOWN),
        groups=tuple(_group(name, plan) for name, plan in plans.items()),
        notes=(
            "Estimates: device and RAM of the process that needs most, disk and reading of all together, sending of "
            "one process. Repairs of empty clusters, stops by validation and failures are left out.",
            *(rests_on(one) for one in hardware.values()),
        ),
    )


def paper_table() -> Table:
    """The paper's run, phase by phase."""
    return plan_table(paper_plans(), f"DeeperCluster on {PAPER_IMAGES:,} images, estimated")


def supplement_prices() -> list[Supplement]:
    """The whole supplement on several machines."""
    return [price_supplement(hardware_named(gpu), processes=count) for gpu, count in PRICED_ON]


def network_prices(prices: Supplement) -> Table:
    """A row for each network of the supplement: its pre-training, and what to call it by."""
    groups = []
    for preset in dict.fromkeys(price.preset for price in prices.prices):
        own = [price for price in prices.prices if price.preset == preset]
        rows = tuple(Row(price.method, tuple(map(Cell, network_row(price)[2:]))) for price in own)
        refused = [f"{p.method}: {p.plan.refusal}." for p in own if p.plan and p.plan.problems]
        groups.append(Group(f"Preset {preset}", rows, " ".join(refused)))
    machine = f"{prices.processes} x {prices.hardware.name}"
    return Table(
        caption=f"The networks of Tables 1 to 4 on {machine}, each trained once, estimated",
        columns=("Method", *PRICE_COLUMNS[2:], hours_of(prices.hardware)),
        groups=tuple(groups),
        notes=(
            "Each is trained by python -m dclib pretrain --preset PRESET --method METHOD "
            f"--processes {prices.processes}. Training with all epochs, and validations on VOC 2007 after every one or "
            "every tenth (`train.validate_every`): both are upper bounds.",
            rests_on(prices.hardware),
        ),
    )


def table_prices(prices: Sequence[Supplement]) -> Table:
    """A row for each of Tables 1 to 4, and one for all: hours of its networks and of its tests, on each machine."""
    machines = [f"{one.processes} x {one.hardware.name}" for one in prices]
    rows = []
    for table in prices[0].tables:
        pairs = [table_row(one, table)[1:] for one in prices]
        rows.append(Row(f"Table {table}", tuple(Cell(text) for pair in pairs for text in pair)))
    networks = [sum(price.spent for price in one.prices) for one in prices]
    sums = [(hours(spent), hours(one.spent - spent)) for one, spent in zip(prices, networks, strict=True)]
    rows.append(Row("All, each network once", tuple(Cell(text, bold=True) for pair in sums for text in pair)))
    unit = hours_of(prices[0].hardware)
    return Table(
        caption=f"The whole supplement in {unit}, estimated",
        columns=("", *(f"{machine}: {what}" for machine in machines for what in ("networks", "tests"))),
        groups=(Group("", tuple(rows)),),
        notes=(
            "A table's networks are all that it needs, those of other tables among them. Tests are the work of one "
            f"process. Together: {'; '.join(f'{hours(p.spent)} on {m}' for p, m in zip(prices, machines, strict=True))}"
            f" ({unit}). The same by python -m dclib plan --supplement, for other machines too.",
            *(rests_on(one.hardware) for one in prices),
        ),
    )


def preset_table(preset: Preset) -> Table | Fragment:
    """The preset at hand, phase by phase."""
    plans = preset_plans(preset)
    if not plans:
        return say(f"Preset {preset.name} takes all images of a folder: python -m dclib plan needs their number.")
    machine = next(iter(plans.values())).work.hardware
    return plan_table(plans, f"Preset {preset.name} on one process of {machine.name}, estimated, a seed")


def book_table(preset: Preset, records: Sequence[Record]) -> Table | Fragment:
    """What the runs of a preset were expected to take on this machine, beside what they took."""
    runs = [card for card in cards_of(records) if card.stage in STAGES]
    if not runs or (preset.data.root and not preset.data.pool_images):
        return say("There are no runs of this preset yet to set beside the plan.")
    machine, methods = machine_at_hand(), [name for name in preset.methods if name in {card.method for card in runs}]
    planned = stage_seconds(preset, methods, machine, {})
    rows = []
    for stage, title in STAGES.items():
        cards = [card for card in runs if card.stage == stage]
        if cards:
            devices = ", ".join(dict.fromkeys(card.device for card in cards))
            pair = planned[stage], sum(card.seconds for card in cards)
            off = f"{pair[0] / pair[1] - 1:+.0%}" if pair[1] else NO_VALUE
            rows.append(Row(title, (*(Cell(duration(value)) for value in pair), Cell(off), Cell(devices, words=True))))
    return Table(
        caption="This book: all runs of a stage together",
        columns=("Stage", "planned", "took", "off by", "took it on"),
        groups=(Group("", tuple(rows)),),
        notes=(
            f"Planned for {machine.name}, as it was measured before the first run. Runs that shared their cores with "
            "other programs took longer than planned.",
        ),
        source=[record for record in records if record.card in runs],
    )


def paper_figure() -> Fragment:
    """Where the time of the paper's run goes, as stacked bars."""
    plans = paper_plans()
    return show(
        plot_phases(plans),
        alt=describe_phases(plans),
        caption="Estimated days of each phase of the paper's run, one bar a machine. Look for the widest piece: it is "
        "what a faster machine has to be faster at.",
    )


def accuracy_table(records: Sequence[Record]) -> Table | Fragment:
    """Plans beside runs of the machine that was measured, from none of which the plans' rates were taken."""
    own = [record for record in records if record.name in NEAR]
    if not own:
        return say(ABSENT.format(ACCURACY))
    runs = list(dict.fromkeys(str(record.keys["run"]) for record in own))
    pairs = {run: [_planned_measured(own, run, name) for name in NEAR] for run in runs}
    near = [
        sum(abs(pair[place][0] / pair[place][1] - 1) <= share for pair in pairs.values())
        for place, share in enumerate(NEAR.values())
    ]
    rows = tuple(
        Row(run, (*_compared(seconds, 1, "s"), *_compared(memory, 1e9, "GB")))
        for run, (seconds, memory) in pairs.items()
    )
    return Table(
        caption="Plans beside runs, all phases of a pre-training together",
        columns=("Run", "planned", "measured", "off by", "memory planned", "measured", "off by"),
        groups=(Group("", rows),),
        notes=(
            f"Of {len(runs)} plans {near[0]} are within {NEAR['plan_seconds']:.0%} of the time and {near[1]} within "
            f"{NEAR['plan_memory']:.0%} of the peak of resident memory. The runs' allocator gave large blocks back at "
            "once (MALLOC_MMAP_THRESHOLD_); as Linux sets it up, blocks that are free again can add some hundred "
            f"megabytes. {origin(own, ACCURACY)}",
        ),
    )


def _planned_measured(records: Sequence[Record], run: str, name: str) -> tuple[float, float]:
    """Of a run as a whole."""
    phase = "all phases" if name == "plan_seconds" else "peak"
    found = {str(r.keys["source"]): r.value for r in select(records, name, run=run, phase=phase)}
    return found["planned"], found["measured"]


def _compared(pair: tuple[float, float], unit: float, symbol: str) -> tuple[Cell, ...]:
    """Planned, measured, and how far apart."""
    planned, measured = pair
    return (*(Cell(f"{value / unit:,.3g} {symbol}") for value in pair), Cell(f"{planned / measured - 1:+.0%}"))


def plot_phases(plans: Mapping[str, Plan]) -> Axes:
    """A horizontal bar for each plan, a piece for each phase."""
    ax = new_axes()
    names = list(dict.fromkeys(phase.name for plan in plans.values() for phase in plan.phases))
    left = [0.0] * len(plans)
    for name, shade in zip(names, SHADES, strict=False):
        widths = [_days(plan, name) for plan in plans.values()]
        ax.barh(range(len(plans)), widths, left=left, color=shade, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ax.set_yticks(range(len(plans)), list(plans))
    ax.invert_yaxis()
    ax.set_xlabel("days, estimated", fontsize=SIZE)
    key_below(ax)
    return finish(ax)


def describe_phases(plans: Mapping[str, Plan]) -> str:
    """The bars in words."""
    parts = [
        f"{name}: " + ", ".join(f"{phase.name} {duration(phase.total_seconds)}" for phase in plan.phases)
        for name, plan in plans.items()
    ]
    return f"Estimated time of each phase. {'; '.join(parts)}."


def _days(plan: Plan, name: str) -> float:
    return sum(phase.total_seconds for phase in plan.phases if phase.name == name) / 86_400


def _group(name: str, plan: Plan) -> Group:
    places = [COLUMNS.index(name) for name in SHOWN]
    rows: Sequence[list[str]] = [[row[place] for place in places] for row in plan_rows(plan)]
    note = f"{name}: {summary(plan)}" + (f" {plan.refusal[0].upper()}{plan.refusal[1:]}." if plan.problems else "")
    return Group(name, tuple(Row(label, tuple(map(Cell, cells))) for label, *cells in rows), note)


def to_have_seen(records: Sequence[Record]) -> Fragment:
    """Where the paper's run spends its time, and how near plans come to what is measured."""
    return shown(list(_seen(records)), f"the plans and {BENCHMARKS}")


def _seen(records: Sequence[Record]) -> Lines:
    for name, plan in list(paper_plans().items())[:1]:
        phases = {phase.name: phase.total_seconds for phase in plan.phases}
        most = max(phases, key=phases.__getitem__)
        share = 100 * phases[most] / sum(phases.values())
        yield f"The paper's run on {name} spends {share:.0f} % of its time in: {most}."
    runs = {str(r.keys["run"]) for r in records if r.name in NEAR}
    for name in NEAR if runs else ():
        pairs = [_planned_measured(records, run, name) for run in sorted(runs)]
        distances = [abs(planned / measured - 1) for planned, measured in pairs]
        near = sum(distance <= NEAR[name] for distance in distances)
        what = "time" if name == "plan_seconds" else "memory"
        yield (
            f"Of {plural(len(distances), 'plan')}, {near} came within {100 * NEAR[name]:.0f} % of the measured "
            f"{what}; the farthest was {100 * max(distances):.0f} % off."
        )
