"""What the pages of a book cost on a machine: their trainings and measurements, and what showing them takes.

The counts follow the procedures in ``train``, ``evaluate`` and ``analysis``; the seconds of a pass through a network
are those that were measured on the machine. A few constants stand for what Python does around them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dclib.config import MethodConfig, Preset
from dclib.counted import compared, counted
from dclib.paper import TABLE2_METHODS, TABLE4_METHODS
from dclib.planner.hardware import Hardware
from dclib.planner.network import FLOAT
from dclib.planner.passes import FEATURE_BATCH, Pass
from dclib.planner.phases import UPDATE_PASSES, evaluation_phase, input_seconds, phases_of
from dclib.planner.plan import of_objects, workload
from dclib.planner.workload import Workload

POCKET = {
    "objects_train": 0.3,
    "objects_test": 0.2,
    "scenes_train": 0.04,
    "scenes_test": 0.1,
}  # of an image of the pool
POCKET_VOC, VOC = (0.03, 0.03, 0.04), (2501, 2510, 4952)  # train, val and test: for an image of the pool; VOC2007
POCKET_LANDMARKS, LANDMARKS = 0.036, 11_455  # images of both cities
IN_TABLE_4 = {method for pair in TABLE4_METHODS.values() for method in pair} | {"released"}
ANALYSED = 4  # networks whose features a page groups, at most

# what Python does, in units of train.speed's fixed piece of work, of which about 250 take a second
DRAW, CROP, STEP = 1.2, 0.02, 1.2  # to draw a picture of the pool with its part of the rest; to cut one; for a step
START, WORK_START = 500.0, 400.0  # to begin a page in a kernel that is there, and the first work on it
SHOWN = {  # beyond a start, to read everything back and draw the figures of it; the first page starts a kernel
    **{"data": 1500.0, "linear_probes": 800.0, "finetuning": 800.0, "retrieval": 4500.0, "voc": 400.0},
    **{"hashtags": 0.0, "colour": 700.0, "sobel": 0.0, "recipes": 0.0, "metadata": 0.0, "planner": -150.0},
    **{"scaling": -100.0, "scorecard": 300.0, "what_came_after": 100.0, "performance": 100.0, "judging": 0.0},
    **{f"exercises_{of}": 0.0 for of in ("idea", "pretraining", "features", "clusters", "verdicts", "own")},
}
SHOWN_OF_TRAINING = 700.0


@dataclass(frozen=True)
class PageCost:
    """Seconds of a page."""

    shown: float  # with everything read back
    work: float  # of its trainings and measurements

    @property
    def seconds(self) -> float:
        return self.shown + self.work


def page_costs(
    preset: Preset,
    pages: Sequence[str],
    hardware: Hardware,
    counts: Mapping[str, int],
    *,
    left_out: Collection[str] = (),
    drawers: int = 1,
) -> dict[str, PageCost]:
    """The cost of each page, where nothing was made before.

    Args:
        pages: Names; ``pretraining_...`` with the name of a method.
        hardware: What a page's process has.
        counts: Images of each set, where they are not drawn.
        left_out: Pages that have nothing to show, for want of images.
        drawers: Processes that draw the pocket world.
    """
    methods = [name for page in pages if (name := page.removeprefix("pretraining_")) != page]
    book = _Book(preset, hardware, _sizes(preset, counts), methods)
    work: dict[str, Callable[[], float]] = {
        "data": partial(book.drawing, drawers),
        "finetuning": book.finetuning,
        "voc": book.voc,
        "recipes": book.choice,
        "retrieval": book.retrieval,
        "few_labels": book.few_labels,
        **({"data_and_clusters": book.counts} if compared(preset) else {}),  # else it shows what is published
        **dict.fromkeys(("colour", "metadata"), book.groupings),
        **{f"pretraining_{method}": partial(book.training_page, method) for method in methods},
    }
    found = {}
    for page in pages:
        begins = page in work and page not in left_out
        found[page] = PageCost(
            shown=book.python(START + SHOWN.get(page, SHOWN_OF_TRAINING)),
            work=book.python(WORK_START) + work[page]() if begins else 0.0,
        )
    return found


def stage_seconds(
    preset: Preset, methods: Sequence[str], hardware: Hardware, counts: Mapping[str, int]
) -> dict[str, float]:
    """Seconds of all runs of a stage, by the name that their records have for it."""
    book = _Book(preset, hardware, _sizes(preset, counts), methods)
    start = book.python(WORK_START)  # of each page's first run
    return {
        "pretrain": len(methods) * start + len(preset.seeds) * sum(map(book.training, methods)),
        "linear_probe": len(preset.seeds) * sum(map(book.probes, methods)),
        "finetune": start + book.finetuning(),
        "voc": start + book.voc(),
        "choice": start + book.choice(),
    }


def table_seconds(preset: Preset, method: str, table: int, hardware: Hardware, counts: Mapping[str, int]) -> float:
    """Seconds in which one process tests a trained network for one of the supplement's Tables 1 to 4."""
    book = _Book(preset, hardware, _sizes(preset, counts), [method])
    tests: dict[int, Callable[[], float]] = {
        1: partial(book.probes, method),
        2: book.finetuning,
        3: book.retrieval,
        4: partial(book.validation, method),
    }
    return tests[table]()


def validation_seconds(preset: Preset, method: str, hardware: Hardware, counts: Mapping[str, int]) -> float:
    """Seconds of the validations in a pre-training that they do not end; 0 where its settings ask for none."""
    train = preset.method(method).train
    times = train.epochs // train.validate_every if train.patience else 0
    return times * _Book(preset, hardware, _sizes(preset, counts), [method]).validation(method)


@dataclass(frozen=True)
class _Book:
    """The works of a preset's pages, in seconds, over all seeds but for those that say a network."""

    preset: Preset
    machine: Hardware
    sizes: Mapping[str, int]
    methods: Sequence[str]

    def python(self, units: float) -> float:
        return units / self.machine.interpreter_rate

    def drawing(self, drawers: int) -> float:
        """Of the pocket world, by so many processes."""
        images = self.preset.data.pocket_images if self.preset.data.is_drawn else 0
        return self.python(DRAW * images) / drawers

    def training_page(self, method: str) -> float:
        """A pre-training and the probes of its layers."""
        return len(self.preset.seeds) * (self.pretraining(method) + self.probes(method))

    def pretraining(self, method: str) -> float:
        """Of one seed, with the clustering of the finished features."""
        common = self.preset.common_clustering
        return self.training(method) + (self._grouping(method, common) if common is not None else 0.0)

    def training(self, method: str) -> float:
        """Of one seed."""
        phases = phases_of(self._workload(method))
        return sum(phase.total_seconds for phase in phases if phase.name != "evaluation")

    def probes(self, method: str, halves: Sequence[str] = ("objects", "scenes")) -> float:
        """Of one network."""
        work, seconds = self._workload(method), 0.0
        for half in halves:
            train, test = self.sizes.get(f"{half}_train", 0), self.sizes.get(f"{half}_test", 0)
            probe = self.preset.probe
            part = replace(
                work,
                labelled_images=min(probe.train_images or train, train),
                test_images=min(probe.test_images or test, test),
            )
            steps = probe.epochs * -(-part.labelled_images // probe.batch_size)
            seconds += evaluation_phase(part).total_seconds + self.python(STEP * steps)
        return seconds

    def few_labels(self) -> float:
        """Of every network: for each share of the labels below one, and to choose a layer, what Table 1's probes take
        on objects. Methods without a network come on top."""
        shares = [share for share in self.preset.low_shot.shares if share < 1]
        if not self.preset.low_shot.shares:
            return 0.0
        networks = sum(self.probes(method, ("objects",)) for method in self.methods)
        return len(self.preset.seeds) * (len(shares) + 1) * networks

    def counts(self) -> float:
        """The networks of other counts, each trained, probed and classified on VOC as those of Table 1 and 4 are."""
        wider = counted(self.preset)
        more = [name for name in compared(self.preset) if name not in self.preset.methods]
        book = replace(self, preset=wider, methods=more)
        return sum(map(book.training_page, more)) + book.voc()

    def finetuning(self) -> float:
        """From every start, with every share of the labels, by both recipes: one has nine tenths of the epochs."""
        tune, total = self.preset.finetune, 0.0
        train, test = self.sizes.get("objects_train", 0), self.sizes.get("objects_test", 0)
        train, test = min(tune.train_images or train, train), min(tune.test_images or test, test)
        parts = [max(1, round(share * train)) if train else 0 for share in tune.shares or (1.0,)]
        shown = sum(tune.passes(part) * part for part in parts)  # images in an epoch, over all shares
        for method in {*TABLE2_METHODS.values(), "released"} & set(self.methods):
            model = self.preset.method(method).model
            colour = replace(model, stem="folded" if model.stem == "sobel" else model.stem)
            step = self._step(Pass(model=colour, batch=tune.batch_size, precision="float32", trains=True), method)
            steps = self._fed(shown / tune.batch_size * step, shown, sum(parts))
            epoch = steps + len(parts) * self._fed(self._forward(method, test), test, test)
            total += 1.9 * tune.epochs * epoch
        return len(self.preset.seeds) * total

    def voc(self) -> float:
        """Every network from train to val and from trainval to test; those of Table 4 with their convolutions too."""
        config, total = self.preset.voc, 0.0
        test = self._voc_images()[2]
        for method in self.methods:
            total += self.validation(method) + self._voc(method, config.iterations, test, False)
            total += self._voc(method, config.iterations, test, True) if method in IN_TABLE_4 else 0.0
        return len(self.preset.seeds) * total

    def validation(self, method: str) -> float:
        """One network from train to val, its convolutions frozen: what Table 4 shows, and what ends a training."""
        config = self.preset.voc
        steps = min(config.iterations, config.validation_iterations)
        return self._voc(method, steps, self._voc_images()[1], trains=False)

    def choice(self) -> float:
        """A short training for each value of the setting, and its score on VOC."""
        choice = self.preset.choice
        if choice.method not in self.methods:
            return 0.0
        config = self.preset.method(choice.method)
        train = replace(config.train, epochs=choice.epochs or config.train.epochs)
        short = replace(
            self.preset, methods={**self.preset.methods, choice.method: replace(config, train=train, init="")}
        )
        one = replace(self, preset=short)
        score = self._voc(choice.method, self.preset.voc.validation_iterations, self._voc_images()[1], False)
        return len(self.preset.seeds) * len(choice.values) * (one.pretraining(choice.method) + score)

    def retrieval(self) -> float:
        """The descriptors of both cities by every network, in float32 at their own size."""
        images = round(POCKET_LANDMARKS * self.sizes["pool"]) if self.preset.data.is_drawn else LANDMARKS
        seconds = 0.0
        for method in self.methods:
            side = self.preset.method(method).model.image_size
            seconds += self._forward(method, images) * (self.preset.retrieval.longest_side / side) ** 2
        return len(self.preset.seeds) * seconds

    def groupings(self) -> float:
        """The pool grouped by the features of some networks."""
        common = self.preset.common_clustering
        if common is None:
            return 0.0
        n_sub = self.preset.analysis.clusters  # 0: as the methods do
        cluster = replace(common.cluster, n_super=1, n_sub=n_sub) if n_sub else common.cluster
        one = replace(common, cluster=cluster)
        return len(self.preset.seeds) * sum(self._grouping(method, one) for method in self.methods[:ANALYSED])

    def _grouping(self, method: str, common: MethodConfig) -> float:
        """Features of the pool in float32, whitened, and k-means."""
        own = self.preset.method(method)
        train = replace(own.train, epochs=1, precision="float32")
        config = replace(common, init="", model=own.model, train=train)
        phases = phases_of(replace(self._workload(method), config=config, n_images=self.sizes["pool"]))
        return sum(phase.seconds for phase in phases if phase.name not in ("training", "evaluation"))

    def _voc(self, method: str, steps: int, tested: int, trains: bool) -> float:
        """One classifier of VOC, trained and tested."""
        config, model = self.preset.voc, self.preset.method(method).model
        one = Pass(model=model, batch=config.batch_size, precision="float32", trains=trains)
        cut = self._forward(method, tested) + self.python(CROP * tested)
        return steps * (self._step(one, method) + self.python(CROP * config.batch_size)) + config.test_crops * cut

    def _step(self, one: Pass, method: str) -> float:
        """A step of a classifier: a pass, an update, and what Python does for it."""
        network = self._workload(method).network
        trained = network.parameters if one.trains else network.linear_flops / 2
        moved = UPDATE_PASSES * FLOAT * trained
        return one.seconds(self.machine) + moved / self.machine.memory_rate + self.python(STEP)

    def _forward(self, method: str, images: int) -> float:
        model = self.preset.method(method).model
        one = Pass(model=model, batch=FEATURE_BATCH, precision="float32", trains=False)
        return images / FEATURE_BATCH * one.seconds(self.machine)

    def _fed(self, seconds: float, images: int, of: int) -> float:
        """Seconds of a pass over images of a set of ``of``, which may wait for those that have to be decoded."""
        if self.preset.data.is_drawn or not images:
            return seconds
        parts, beside = input_seconds(self._workload(self.methods[0]), images, of)
        return max(seconds + parts.get("decoding", 0.0), *beside.values(), 0.0)

    def _workload(self, method: str) -> Workload:
        config = self.preset.method(method)
        n_images = self.sizes["objects_train" if of_objects(config) else "pool"]
        n_images = min(n_images, config.pool_images or n_images)
        return workload(self.preset, method, self.machine, n_images=max(1, n_images))

    def _voc_images(self) -> tuple[int, int, int]:
        if not self.preset.data.is_drawn:
            return VOC
        train, val, test = (round(share * self.sizes["pool"]) for share in POCKET_VOC)
        return train, val, test


def _sizes(preset: Preset, counts: Mapping[str, int]) -> dict[str, int]:
    """Images of each set: those that were counted, or the pocket world's."""
    if not preset.data.is_drawn:
        return {"pool": preset.data.pool_images, "objects_train": 0, **counts}
    pool = preset.data.pocket_images
    return {"pool": pool, **{name: round(share * pool) for name, share in POCKET.items()}}
