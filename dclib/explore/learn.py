"""Training on one's own photographs, in rounds: the first from nothing, later ones from the network there is."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dclib.config import ClusterConfig, MethodConfig, ModelConfig, TrainConfig, config_hash
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels
from dclib.explore.found import CHECKPOINT, load_network, read_checkpoint
from dclib.explore.look import Squares
from dclib.explore.settings import START, choose, kept_side
from dclib.models.vgg import Trunk
from dclib.planner.hardware import Hardware
from dclib.planner.words import duration
from dclib.preemption import PreemptedError, is_signalled, leaving_at
from dclib.records import make_folder, replacing, reserve, temporary_for, write_atomically
from dclib.train.pretrain import pretrain
from dclib.train.runs import default_device

BLOCK = 512  # squares that are made smaller at once
_CONTENTS = "contents-{}.npy"
START_AT_MOST = 0.6  # share of the time after which RotNet is stopped, on a machine that has become slower
FASTEST = 0.05  # of the time that was planned, what a training is taken to need at the least
ADVICE = re.compile(r"(WARNING: [^;]*); lower .*")  # a warning on a run, with the settings that it would change
GROWN = 0.1  # share of new photographs from which a network that has not seen them goes on learning


@dataclass
class Round:
    """One training: its photographs, its settings and how far it is."""

    photographs: str  # a hash of what it learns from
    minutes: float  # that its whole exploration was given
    seconds: float  # that it was expected to take
    model: ModelConfig
    main: MethodConfig  # DeeperCluster
    start: MethodConfig | None = None  # RotNet; None where it goes on from the round before
    done: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Round:
        start = saved["start"] and _config(saved["start"])
        model = ModelConfig(**saved["model"])
        return cls(**{**saved, "start": start, "main": _config(saved["main"]), "model": model})


def _config(saved: Mapping[str, Any]) -> MethodConfig:
    return MethodConfig(
        method=saved["method"],
        model=ModelConfig(**saved["model"]),
        cluster=ClusterConfig(**saved["cluster"]),
        train=TrainConfig(**saved["train"]),
    )


@dataclass
class Network:
    """The network of an exploration: a folder with a sub-folder for each round.

    ``checkpoint.pt`` in it is the last one's; ``rounds.json`` says what each learned from.
    """

    folder: Path
    rounds: list[Round] = field(default_factory=list)

    @classmethod
    def at(cls, folder: Path) -> Network:
        """What is there; no rounds where there is nothing.

        Raises:
            ValueError: what the rounds learned from cannot be read, without which no network can be gone on with.
        """
        path = folder / "rounds.json"
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(saved, list):
                raise TypeError(f"it holds a {type(saved).__name__}, not a list")
            return cls(folder, [Round.from_json(one) for one in saved])
        except FileNotFoundError:
            return cls(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"cannot read {path} ({error}); put back a copy of it, or delete {folder}, and a network is trained "
                "anew"
            ) from None

    def save(self) -> None:
        make_folder(self.folder)
        write_atomically(
            self.folder / "rounds.json", json.dumps([one.as_json() for one in self.rounds], indent=1).encode()
        )

    def place(self, number: int, stage: str) -> Path:
        """The run's folder of a stage (``rotnet`` or ``deepercluster``) of a round, counted from 0."""
        return self.folder / f"round-{number + 1}-{self.rounds[number].photographs[:6]}" / stage

    def end(self) -> None:
        """The last round has ended: its network is that of the folder."""
        trained = self.place(len(self.rounds) - 1, "deepercluster") / CHECKPOINT
        with replacing(self.folder / CHECKPOINT) as file:
            file.write(trained.read_bytes())
        self.rounds[-1].done = True
        self.save()

    def give_up(self) -> None:
        """End the last round where it is: its network is taken as far as it has come, if it has one."""
        if (self.place(len(self.rounds) - 1, "deepercluster") / CHECKPOINT).exists():
            self.end()
        else:
            self.rounds.pop()

    @property
    def last(self) -> Round | None:
        """The last round, ended or not; None where there is none."""
        return self.rounds[-1] if self.rounds else None

    @property
    def finished(self) -> int:
        """Number of the last round that has ended; -1 where there is none."""
        return max((number for number, one in enumerate(self.rounds) if one.done), default=-1)

    def trunk(self) -> Trunk | None:
        """The network of the last round that has ended, in evaluation mode. Raises ValueError where it is damaged."""
        number = self.finished
        if number < 0:
            return None
        with self._readable():
            return load_network(self.place(number, "deepercluster")).to(torch.device(default_device()))

    def history(self) -> list[dict[str, float]]:
        """Epochs and clusterings of the last round that has ended, RotNet's first."""
        number, rows = self.finished, []
        for stage in ("rotnet", "deepercluster") if number >= 0 else ():
            path = self.place(number, stage) / CHECKPOINT
            if path.exists():
                with self._readable():
                    rows += read_checkpoint(path)["history"]
        return rows

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Says of a checkpoint that is gone or damaged what can be done."""
        try:
            yield
        except ValueError as error:
            raise ValueError(
                f"the network in {self.folder} is not whole ({error}); put back a copy of it, or delete {self.folder}, "
                "and one is trained anew"
            ) from None

    def seconds_per_epoch(self) -> float:
        """Of DeeperCluster in the last round that has ended; 0 where nothing is known."""
        number = self.finished
        path = self.place(number, "deepercluster") / CHECKPOINT
        if number < 0 or not path.exists():
            return 0.0
        state = read_checkpoint(path)
        return float(state["seconds"]) / max(1, int(state["epoch"]))


def shrink(squares: Squares, order: Any, model: ModelConfig, images: ImageSet, content: str, folder: Path) -> Pixels:
    """Squares in an order, as a network is trained on them: kept in one memory-mapped file.

    Args:
        order: (m,) rows of ``squares``.
        images: The set in this order.
        content: Hash of what they show.
    """
    side = kept_side(model)
    path = folder / f"squares-{config_hash(content, side, [int(i) for i in order])}.u8"
    shape = (len(order), 3, side, side)
    make_folder(folder)
    if not path.is_file() or path.stat().st_size != math.prod(shape):
        for old in folder.glob("squares-*.u8"):
            old.unlink(missing_ok=True)
        with temporary_for(path) as temporary:
            target = np.memmap(temporary, dtype=np.uint8, mode="w+", shape=shape)
            reserve(temporary)
            for start in range(0, len(order), BLOCK):
                block = torch.from_numpy(squares[order[start : start + BLOCK]])
                target[start : start + BLOCK] = smaller(block, side).numpy()
            target.flush()
    kept = torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c", shape=shape))
    return Pixels(images, (), model.image_size, side, kept, content=content)


def smaller(block: Tensor, side: int) -> Tensor:
    """Squares (n, 3, s, s) uint8 made smaller, each point the mean of what it covers."""
    if block.shape[-1] == side:
        return block
    return F.interpolate(block.float(), (side, side), mode="bilinear", antialias=True).round().clamp(0, 255).byte()


def begin_round(
    network: Network,
    pixels: Pixels,
    contents: Sequence[str],
    model: ModelConfig,
    minutes: float,
    seconds: float,
    hardware: Callable[[], Hardware],
) -> str:
    """Give ``network`` a round to go on with, the one that was begun or a new one, where there is something to learn.

    Args:
        contents: (n,) hashes of the photographs' files.
        model: Of a first round; a later one keeps that of its network.
        minutes: That the exploration is given in all; a round on the same photographs gets what is new of them.
        seconds: That there are for training, were it the first.
        hardware: Measures this machine, where it is asked.

    Returns:
        Why there is none; empty where there is.
    """
    last = network.last
    photographs = pixels.identity
    if last and not last.done:
        if last.photographs == photographs:
            return ""
        network.give_up()  # for the photographs are not these any more
        last = network.last
    if last and last.photographs == photographs and minutes <= last.minutes:
        return (
            f"the network has learned from these for its {last.minutes:g} minutes; more, with --minutes, go on from it"
        )
    if last and last.photographs != photographs:
        new = 1 - np.isin(_numbers(contents), _learned_from(network)).mean()
        if new < GROWN and minutes <= last.minutes:
            return (
                f"{new:.1%} of the photographs are new, and below {GROWN:.0%} the network is taken as it is; "
                "a larger --minutes lets it learn from them"
            )
    known = network.finished >= 0
    model = network.rounds[-1].model if known else model
    if last and last.photographs == photographs:
        seconds -= 60 * last.minutes
    settings = choose(len(pixels), model, seconds, hardware(), goes_on=known)
    if settings is None:
        return f"{duration(max(seconds, 0))} are too little to learn anything from {len(pixels):,} photographs"
    network.rounds.append(Round(photographs, minutes, settings.seconds, model, settings.main, settings.start))
    place = network.place(len(network.rounds) - 1, "deepercluster").parent
    shutil.rmtree(place, ignore_errors=True)  # of a round on the same photographs that was given up
    make_folder(network.folder)
    with replacing(network.folder / _CONTENTS.format(len(network.rounds))) as file:
        np.save(file, _numbers(contents))
    network.save()
    return ""


def finish_round(
    network: Network,
    pixels: Pixels,
    deadline: float,
    latest: float,
    hardware: Callable[[], Hardware],
    report: Callable[[str], None],
) -> None:
    """Train what the last round has settled, or go on with it.

    DeeperCluster's epochs are settled anew once RotNet has shown how quick this machine is, if it has not begun: they
    were planned for its processor, and a graphics card is taken where there is one.

    Args:
        deadline: Until when it may take, as ``time.monotonic`` counts.
        latest: When it is stopped, on a machine that has become slower since; the network is taken as it is then.
    """
    number = len(network.rounds) - 1
    one, initial, place = network.rounds[number], network.trunk(), network.place(number, "deepercluster")
    if one.start:
        folder = network.place(number, "rotnet")
        if not (place / CHECKPOINT).exists():
            now = time.monotonic()
            _train(pixels, one.start, folder, None, now + START_AT_MOST * (latest - now), report)
            saved = read_checkpoint(folder / CHECKPOINT)
            planned = one.seconds * START * max(saved["epoch"], 1) / one.start.train.epochs
            slower = max(float(saved["seconds"]) / planned, FASTEST)  # of all its sittings
            left = max(deadline - time.monotonic(), one.seconds * START / 4)
            if settings := choose(len(pixels), one.model, left / slower, hardware(), goes_on=True):
                if settings.main.train.epochs != one.main.train.epochs:
                    report(f"DeeperCluster for {settings.main.train.epochs} epochs, by how quick RotNet's were")
                one.main = settings.main
                network.save()
        initial = load_network(folder)
    _train(pixels, one.main, place, initial, latest, report)
    network.end()


def _train(
    pixels: Pixels,
    config: MethodConfig,
    folder: Path,
    initial: Trunk | None,
    latest: float,
    report: Callable[[str], None],
) -> None:
    """Train to the end, or until ``latest``: what was trained is in the folder's checkpoint."""

    def told(line: str) -> None:  # nobody chooses a setting here
        report(ADVICE.sub(r"\1; training goes on, and the verdict at the end tells what was learned", line))

    try:
        with leaving_at(latest):
            pretrain(pixels, config, folder=folder, initial=initial, device=default_device(), report=told)
    except PreemptedError:
        if is_signalled():
            raise
        epochs = f"{read_checkpoint(folder / CHECKPOINT)['epoch']} of {config.train.epochs} epochs"
        report(f"time is up after {epochs}: this machine has become slower; {config.method} is taken as it is")


def _learned_from(network: Network) -> NDArray[np.uint64]:
    """The numbers of :func:`_numbers` that the last round learned from; none where their file is gone or damaged."""
    try:
        kept = np.load(network.folder / _CONTENTS.format(len(network.rounds)), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.empty(0, dtype=np.uint64)
    return np.asarray(kept, dtype=np.uint64)


def _numbers(contents: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes in few bytes."""
    return np.array([int(one[:16], 16) for one in contents], dtype=np.uint64)
