"""What a run will cost on given hardware, or why it cannot be done there and what could."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dclib.cluster.counts import POINTS_PER_CLUSTER
from dclib.config import MethodConfig, Preset
from dclib.data.public_sets import advice
from dclib.planner.hardware import GPUS, Hardware
from dclib.planner.phases import Phase, phases_of
from dclib.planner.words import aligned, duration, gigabytes, hours, hours_of, rests_on
from dclib.planner.workload import Workload

USABLE = 0.95  # share of a memory that a run can count on: the rest goes to the driver and to fragments
MOST_PROCESSES = 1024  # that a remedy may ask for
IMAGENET = 1_281_167, 50_000, 1000  # images, test images and classes
POCKET_OBJECTS, POCKET_TEST, POCKET_CLASSES = 0.3, 0.2, 16  # images for each one of the pool, and classes: dclib.pocket

COLUMNS = ("phase", "times", "each", "in all", "device", "RAM", "disk", "read", "sent", "bottleneck")


@dataclass(frozen=True)
class Plan:
    """The phases of a run, and what stands in its way."""

    work: Workload
    phases: tuple[Phase, ...]
    problems: tuple[str, ...]  # each a clause; none where the run fits
    remedy: str = ""  # a change with which it fits, in words; empty where it fits, or where nothing tried helps

    @property
    def seconds(self) -> float:
        return sum(phase.total_seconds for phase in self.phases)

    @property
    def training_seconds(self) -> float:
        """Without the evaluation."""
        return sum(phase.total_seconds for phase in self.phases if phase.name != "evaluation")

    @property
    def spent(self) -> float:
        """Seconds of all processes together: the evaluation is the work of one."""
        return self.seconds + (self.work.processes - 1) * self.training_seconds

    @property
    def slowest(self) -> Phase:
        """The phase that takes most of the time."""
        return max(self.phases, key=lambda phase: phase.total_seconds)

    @property
    def slowest_of_training(self) -> Phase:
        """The same without the evaluation."""
        return max(
            (phase for phase in self.phases if phase.name != "evaluation"), key=lambda phase: phase.total_seconds
        )

    @property
    def refusal(self) -> str:
        """One sentence for a run that cannot be; empty for one that can."""
        if not self.problems:
            return ""
        help_ = f"it fits with {self.remedy}" if self.remedy else "no change that was tried makes it fit"
        return f"this run does not fit: {'; '.join(self.problems)}; {help_}"


def make_plan(
    preset: Preset,
    method: str,
    hardware: Hardware,
    *,
    processes: int = 1,
    n_images: int = 0,
    labelled: tuple[int, int, int] | None = None,
    disk_bytes: float = float("inf"),
) -> Plan:
    """Plan one pre-training of a preset with one seed, and the linear classifiers of its network.

    Args:
        hardware: What each process has.
        processes: GPUs, or processes without one.
        n_images: Images to pre-train on; 0 means those that the preset names. A method that learns from the labelled
            objects has no more than there are of these.
        labelled: Images and test images for the linear classifiers, and classes; zeros where there are none. By
            default those of the pocket world, or else ImageNet's.
        disk_bytes: Room for the run's own files; the images are not among them.

    Raises:
        ValueError: an unknown method, or numbers out of their range. A run that does not fit is no error here: see
            :attr:`Plan.problems`.
    """
    if processes < 1 or n_images < 0:
        raise ValueError(f"need processes >= 1 and images >= 0; got {processes} and {n_images}")
    if n_images and of_objects(preset.method(method)):
        n_images = min(n_images, _labels(preset, labelled)[0] or n_images)
    work = workload(preset, method, hardware, processes=processes, n_images=n_images, labelled=labelled)
    plan = plan_work(work, disk_bytes)
    return replace(plan, remedy=_find_remedy(work, disk_bytes)) if plan.problems else plan


def workload(
    preset: Preset,
    method: str,
    hardware: Hardware,
    *,
    processes: int = 1,
    n_images: int = 0,
    labelled: tuple[int, int, int] | None = None,
) -> Workload:
    """What there is to plan of a method; see :func:`make_plan`."""
    config, labels = preset.method(method), labelled_images_of(preset, labelled)
    return Workload(
        config=config,
        data=preset.data,
        probe=preset.probe,
        n_images=n_images or images_of(preset, config, labels["labelled_images"]),
        hardware=hardware,
        processes=processes,
        **labels,
    )


def of_objects(config: MethodConfig) -> bool:
    """Whether a method pre-trains on the labelled objects; only the supervised one looks at their labels."""
    return config.method == "supervised" or config.images == "objects"


def images_of(preset: Preset, config: MethodConfig, labelled: int) -> int:
    """Images that a method pre-trains on, as far as the preset's settings tell.

    Raises:
        ValueError: they do not: a folder of images that has to be counted first.
    """
    if of_objects(config):
        return labelled
    if config.pool_images or preset.data.pool_images:
        return config.pool_images or preset.data.pool_images
    if preset.data.root:
        raise ValueError(
            f"preset {preset.name!r} takes all images of a folder; {advice(preset.data)}"
            "say how many there are, --images N, or where they are, --data DIR"
        )
    return preset.data.pocket_images


def labelled_images_of(preset: Preset, labelled: tuple[int, int, int] | None = None) -> dict[str, int]:
    """The sizes of the labelled set, by the names of :class:`Workload`; see :func:`make_plan`."""
    train, test, n_classes = _labels(preset, labelled)
    probe = preset.probe
    return {
        "labelled_images": min(probe.train_images or train, train),
        "test_images": min(probe.test_images or test, test),
        "n_classes": n_classes,
    }


def _labels(preset: Preset, labelled: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Labelled images, test images and classes that there are; see :func:`make_plan`."""
    pool = preset.data.pocket_images
    return labelled or (
        IMAGENET if preset.data.root else (int(POCKET_OBJECTS * pool), int(POCKET_TEST * pool), POCKET_CLASSES)
    )


def plan_work(work: Workload, disk_bytes: float = float("inf")) -> Plan:
    """The phases and what does not fit; nothing else is tried."""
    phases = tuple(phases_of(work))
    return Plan(work, phases, (*_bad_numbers(work), *_too_little(work, phases, disk_bytes)))


def _bad_numbers(work: Workload) -> Iterator[str]:
    """What the run itself would refuse before it starts."""
    config, needed = work.config, _smallest_batch(work)
    if config.clusters and config.cluster.n_clusters > work.n_images:
        yield f"{config.cluster.n_clusters:,} clusters need as many images; there are {work.n_images:,}"
    if config.train.batch_size < needed:
        yield f"a batch of {config.train.batch_size} images cannot be shared by {needed} processes or super-classes"


def _smallest_batch(work: Workload) -> int:
    """An image for each process, and for each super-class where these have processes of their own, in each part."""
    parts, s = work.config.train.accumulate, work.heads.n_super_classes
    return parts * max(work.processes, s) if work.is_sharded else work.processes * ((parts - 1) * s + 1)


def _too_little(work: Workload, phases: Sequence[Phase], disk_bytes: float) -> Iterator[str]:
    """The memories and disks that are too small, each for the phase that needs most."""
    machine = work.hardware
    needs: list[tuple[str, float, list[float]]] = [
        ("of memory for each process", machine.ram_bytes, [p.ram_bytes + _own_device(machine, p) for p in phases]),
        ("of disk", disk_bytes / USABLE, [p.disk_bytes for p in phases]),
    ]
    if machine.is_gpu:
        needs.insert(0, ("of GPU memory", machine.memory_bytes, [p.device_bytes for p in phases]))
    for what, limit, sizes in needs:
        most, room = max(sizes), USABLE * limit
        if most > room:
            name = phases[sizes.index(most)].name
            yield f"{name} needs {gigabytes(most)} {what}, of which {gigabytes(room)} can be used"


def _own_device(machine: Hardware, phase: Phase) -> float:
    return 0.0 if machine.is_gpu else phase.device_bytes


def _find_remedy(work: Workload, disk_bytes: float) -> str:
    """The first change, from the mildest on, with which the run fits."""
    tried = (words for words, changed in _changes(work) if not plan_work(changed, disk_bytes).problems)
    return next(tried, "")


def _changes(work: Workload) -> Iterator[tuple[str, Workload]]:
    """Changes to try: settings that keep the numbers, more processes, settings that change them, other hardware."""
    kept: list[tuple[tuple[str, ...], Workload]] = [((), work)]
    if work.config.train.head_placement == "replicated" and work.heads.n_super_classes > 1:
        kept.append((("train.head_placement=sharded",), _with(work, "train", head_placement="sharded")))
    if work.config.clusters and work.config.cluster.precision == "float32":
        kept += [
            ((*words, "cluster.precision=float16"), _with(changed, "cluster", precision="float16"))
            for words, changed in kept
        ]
    places = "GPUs" if work.hardware.is_gpu else "processes"
    many = [work.processes]
    while 2 * many[-1] <= MOST_PROCESSES:
        many.append(2 * many[-1])
    for processes in many:
        for words, changed in kept:
            more = (f"{processes} {places}",) if processes > work.processes else ()
            yield " and ".join([*words, *more]), replace(changed, processes=processes)
    if work.config.train.batch_size < _smallest_batch(work):
        yield f"train.batch_size={_smallest_batch(work)}", _with(work, "train", batch_size=_smallest_batch(work))
    parts = work.config.train.accumulate
    while 2 * parts <= work.local_batch // 2:
        parts *= 2
        yield f"train.accumulate={parts}", _with(work, "train", accumulate=parts)
    for batch in _halves(work.config.train.batch_size // 2):
        if batch >= 2 * work.config.train.accumulate:
            yield f"train.batch_size={batch}", _with(work, "train", batch_size=batch)
    larger = [gpu for gpu in GPUS.values() if gpu.memory_bytes > work.hardware.memory_bytes]
    for gpu in sorted(larger, key=lambda gpu: gpu.memory_bytes):
        for processes in many:
            for words, changed in kept:
                yield (
                    " and ".join([*words, f"{processes} {gpu.name}"]),
                    replace(changed, hardware=gpu, processes=processes),
                )
    rows = work.n_images // work.config.cluster.n_super // POINTS_PER_CLUSTER
    for n_sub in _halves(min(work.config.cluster.n_sub, rows)) if work.config.clusters else ():
        yield f"cluster.n_sub={n_sub}", _with(work, "cluster", n_sub=n_sub)


def _halves(number: int) -> Iterator[int]:
    """A number, its half, and so on down to two."""
    while number >= 2:
        yield number
        number //= 2


def _with(work: Workload, section: str, **values: Any) -> Workload:
    changed = replace(getattr(work.config, section), **values)
    return replace(work, config=dataclasses.replace(work.config, **{section: changed}))


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """A row for each phase under :data:`COLUMNS`; memories are a process's, disk and reading those of all together."""
    return [
        (
            phase.name,
            str(phase.times),
            duration(phase.seconds),
            duration(phase.total_seconds),
            gigabytes(phase.device_bytes),
            gigabytes(phase.ram_bytes),
            gigabytes(phase.disk_bytes),
            gigabytes(phase.read_bytes),
            gigabytes(phase.sent_bytes),
            phase.bottleneck,
        )
        for phase in plan.phases
    ]


def plan_lines(plan: Plan) -> list[str]:
    """A plan as text: the phases as a table, the totals, the bottleneck, and what the numbers rest on."""
    table = aligned([COLUMNS, *plan_rows(plan)])
    return [*table, summary(plan), f"Estimates. {rests_on(plan.work.hardware)}"]


def total(plans: Sequence[Plan]) -> str:
    """Several plans together in a sentence."""
    spent, machine = sum(plan.spent for plan in plans), plans[0].work.hardware
    return (
        f"In all {len(plans)} pre-trainings with their linear classifiers, one after the other: "
        f"{duration(sum(plan.seconds for plan in plans))}, {hours(spent)} {hours_of(machine)}; validations that decide "
        "when training ends, fine-tuning and other tests are left out."
    )


def summary(plan: Plan) -> str:
    """Size, total and bottleneck in a sentence or two."""
    work, slowest = plan.work, plan.slowest
    share = 100 * slowest.total_seconds / plan.seconds
    return (
        f"{work.n_images:,} images on {work.processes} x {work.hardware.name}: {duration(plan.seconds)} in all. "
        f"Bottleneck: {slowest.bottleneck}, in {slowest.name}, which takes {share:.0f} % of the time."
    )
