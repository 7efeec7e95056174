"""Everything that needs a GPU, by one command that is started again until it says that all is done.

    python benchmarks/gpu.py pack data/cifar10 cifar10.tar.gz         # at home: images small enough to carry
    python benchmarks/gpu.py run --images cifar10.tar.gz              # on the GPU machine, again and again
    python benchmarks/gpu.py publish runs/gpu/records.tar             # at home, if the GPU machine could not

``run`` needs Python 3.11, torch, torchvision, numpy, pillow, pyyaml, scikit-learn and tqdm, and no internet. It checks
each kernel of the method against the CPU, measures clustering, training and extraction at the paper's size against
plain float32 and against the machine's own limits, and trains and probes networks on real images. Each call takes at
most ``--budget`` seconds; what is finished is in ``runs/gpu``, all records in its ``records.tar``: with that file given
by ``--records``, another machine goes on where the last one stopped. Exit status 75 says that something is left.

Records go to ``results/benchmarks/gpu-*.json`` and ``results/<preset>``. Without a GPU all of it runs at toy size on
the CPU, its records say so, and those of a GPU are never replaced by them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_records import Part, Setting

NEEDED = {
    **{"torch": "torch", "numpy": "numpy", "PIL": "pillow", "yaml": "pyyaml", "tqdm": "tqdm"},
    "sklearn": "scikit-learn with its scipy, joblib, narwhals and threadpoolctl",
}
DRAWING = ("matplotlib", "seaborn")  # what publishing a preset needs besides


def missing_packages() -> str:
    """One sentence on the wheels to bring, or nothing."""
    absent = [wheel for module, wheel in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not absent:
        return ""
    return (
        f"need {', '.join(absent)}, and this Python has none: bring the wheels, of the versions in requirements.lock, "
        "and install them with 'pip install --no-index --no-deps *.whl'"
    )


def run(options: argparse.Namespace) -> int:
    """All parts, as far as the time goes."""
    from gpu_images import preset_among, preset_for, unpack
    from gpu_records import Setting, read_archive, refuse_lesser, write_archive
    from gpu_together import jobs_of, train_together

    deadline = time.monotonic() + options.budget
    device = _device(options.device)
    setting = Setting(device, options.size or ("toy" if device.type == "cpu" else "full"), options.work)
    os.environ["DCLIB_RUNS"] = str((options.work / "runs").resolve())
    if options.records and options.records.exists():
        read_archive(options.records, options.work)
    roots = [unpack(packed, options.work / "images") for packed in options.images]
    size, changes = setting.size, dict(options.set)
    presets = [preset_among(name, options.work / "images", size, changes) for name in options.presets]
    presets = presets or [preset_for(root, size, changes) for root in roots]
    refuse_lesser(setting.rank, _results().glob("benchmarks/gpu-*.json") if options.measure else ())
    for preset in presets if not options.presets else ():
        refuse_lesser(setting.rank, _results().glob(f"{preset.name}/records/*/*.json"))
    print(f"{setting.size} size on {device}", flush=True)
    left, wrong = measure_parts(setting, deadline) if options.measure else ([], [])
    jobs = [job for preset in presets for job in jobs_of(preset, setting.work)]
    jobs = [job for job in jobs if any(fnmatch(f"{job.method}-s{job.seed}", wanted) for wanted in options.only)]
    untrained, failed = train_together(jobs, options.together, setting, deadline, probe=options.probe)
    print(f"records: {write_archive(setting.work)}")
    publish_work(setting.work, presets=not options.presets)
    for line in [*(f"the GPU is wrong: {line}" for line in wrong), *failed]:
        print(line, file=sys.stderr)
    if left := [*left, *untrained]:
        print(f"left: {'; '.join(left)}. Start it again and it goes on")
        return 75
    print("all else is done" if failed else "all parts are done")
    return 1 if wrong or failed else 0


def measure_parts(setting: Setting, deadline: float) -> tuple[list[str], list[str]]:
    """Measure the parts that have no current records; returns those that time leaves, and what came out wrong."""
    from gpu_correctness import CORRECTNESS, failures
    from gpu_speed import EXTRACTION, KMEANS, TRAINING

    from dclib.records import read_records

    left = []
    for part in (CORRECTNESS, KMEANS, TRAINING, EXTRACTION):
        if not measure_part(part, setting, deadline):
            left.append(part.name)
    checked = [r for r in read_records(setting.work / "benchmarks") if r.name in ("gpu_error", "gpu_tolerance")]
    return left, failures(checked)


def measure_part(part: Part, setting: Setting, deadline: float) -> bool:
    """Measure a part and write its records, unless they are there or time is short; whether they are there now."""
    from gpu_records import card_of, is_finished, write_archive

    from dclib.records import write_records

    path = setting.work / "benchmarks" / part.file
    if is_finished(path, card_of(part, setting, {}, {})):
        return True
    allowance = part.seconds if setting.size == "full" else 0.0
    if time.monotonic() + allowance > deadline:
        return False
    print(f"== {part.name}", flush=True)
    start = time.monotonic()
    records, settings, notes = part.measure(setting)
    card = card_of(part, setting, settings, notes)
    write_records(path, replace(card, seconds=round(time.monotonic() - start, 1)), records)
    write_archive(setting.work)
    return True


def publish_work(work: Path, *, presets: bool = True) -> None:
    """Put the records of a work folder among the project's results; a preset's need matplotlib for their figure."""
    from gpu_images import is_published, preset_named
    from gpu_records import publish_parts, rank_of, refuse_lesser

    for path in publish_parts(work):
        print(f"published: {path}")
    names = sorted(folder.parent.parent.name for folder in work.glob("runs/*/records/linear_probe"))
    names = [name for name in names if presets and is_published(name)]
    absent = [package for package in DRAWING if importlib.util.find_spec(package) is None]
    if absent and names:
        print(f"not published, for {' and '.join(absent)} are not here: {', '.join(names)}. Bring records.tar home")
        return
    for name in names:
        from dclib.press.publish import publish

        worst = min(map(rank_of, work.glob(f"runs/{name}/records/*/*.json")))
        refuse_lesser(worst, _results().glob(f"{name}/records/*/*.json"))
        print(f"published: {publish(preset_named(name))}")


def publish_archive(options: argparse.Namespace) -> int:
    """Publish the records of an archive."""
    from gpu_records import read_archive

    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        os.environ["DCLIB_RUNS"] = str(Path(folder) / "runs")
        read_archive(options.archive, Path(folder))
        publish_work(Path(folder))
    return 0


def pack_images(options: argparse.Namespace) -> int:
    """Make a file of images to carry."""
    from gpu_images import pack

    chosen = {"splits": options.splits, "images": options.count}
    print(pack(options.source, options.target, **chosen, most_mib=options.most_mib))
    return 0


def unpack_images(options: argparse.Namespace) -> int:
    """Unpack files of images, for what is to be done with them before ``run``."""
    from gpu_images import unpack

    for packed in options.images:
        print(unpack(packed, options.work / "images"))
    return 0


def do_job(options: argparse.Namespace) -> int:
    """One training and its probes, as ``run`` starts them."""
    from gpu_together import do_job

    return do_job(options)


def pack_parcels(options: argparse.Namespace) -> int:
    """Records, pictures and networks into files to carry."""
    from gpu_parcels import pack_parcels

    print(*pack_parcels(options.work, options.target, options.networks, most_mib=options.most_mib), sep="\n")
    return 0


def bring_home(options: argparse.Namespace) -> int:
    """Records, pictures and networks from files into a folder of runs."""
    from gpu_parcels import unpack_parcels

    from dclib.presets import runs_folder

    print(unpack_parcels(options.parcels, options.runs or runs_folder()))
    return 0


def _device(name: str) -> Any:
    import torch

    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _results() -> Path:
    from dclib.presets import project_root

    return project_root() / "results"


def _change(text: str) -> tuple[str, Any]:
    """``train.epochs=10`` as a setting and its value."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"need SETTING=VALUE, such as train.epochs=10; got {text!r}")
    return key, yaml.safe_load(value)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    door = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = door.add_subparsers(dest="command", required=True, metavar="COMMAND")
    packing = commands.add_parser("pack", help="images of a data folder into one file")
    packing.add_argument("source", type=Path, help="folder with train and test or val, as folders or .tar files")
    packing.add_argument("target", type=Path, help="file to write, .tar.gz")
    packing.add_argument("--splits", nargs="+", default=(), help="others than train, test and val, by name")
    packing.add_argument("--count", type=int, default=0, help="images of each split, spread over classes; 0: all")
    packing.add_argument("--most-mib", type=float, default=60.0, help="refuse to write a larger file")
    packing.set_defaults(call=pack_images)
    unpacking = commands.add_parser("unpack", help="files made by pack below the work folder, which run does too")
    unpacking.add_argument("images", type=Path, nargs="+", help="files made by pack")
    unpacking.set_defaults(call=unpack_images)
    running = commands.add_parser("run", help="check, measure and train")
    _add_run_options(running)
    publishing = commands.add_parser("publish", help="records of an archive into results/")
    publishing.add_argument("archive", type=Path, help="records.tar")
    publishing.set_defaults(call=publish_archive)
    parcels = commands.add_parser("parcels", help="records, pictures and networks into files to carry")
    parcels.add_argument("target", type=Path, help="beginning of the files' names")
    parcels.add_argument("--networks", nargs="*", default=["*"], help="which, in order: 'PRESET/METHOD-s*'; or all")
    parcels.add_argument("--most-mib", type=float, default=60.0, help="of all files together")
    parcels.set_defaults(call=pack_parcels)
    homing = commands.add_parser("home", help="what parcels or records.tar hold into runs/, as if trained here")
    homing.add_argument("parcels", type=Path, nargs="+")
    homing.add_argument("--runs", type=Path, help="another folder of runs; on a GPU machine runs/gpu/runs")
    homing.set_defaults(call=bring_home)
    for command in (unpacking, running, parcels):
        command.add_argument("--work", type=Path, default=_root() / "runs" / "gpu", help="keeps what is finished")
    job = commands.add_parser("job")  # what run starts
    for name, kind in {"preset": Path, "method": str, "seed": int, "stem": Path, "key": str, "--device": str}.items():
        job.add_argument(name, type=kind)
    job.add_argument("--probe", action=argparse.BooleanOptionalAction, default=True)
    job.set_defaults(call=do_job)
    return door


def _add_run_options(running: argparse.ArgumentParser) -> None:
    running.add_argument("--images", type=Path, nargs="*", default=[], help="files made by pack")
    running.add_argument("--presets", nargs="*", default=[], help="names or files (default: those of the images)")
    running.add_argument("--together", type=int, default=1, metavar="N", help="trainings at once (default: 1)")
    running.add_argument("--only", nargs="*", default=["*"], help="of the presets, 'rotnet-s0' or patterns of such")
    running.add_argument("--probe", action=argparse.BooleanOptionalAction, default=True, help="or leave it for home")
    running.add_argument("--measure", action=argparse.BooleanOptionalAction, default=True, help="or train alone")
    running.add_argument("--budget", type=float, default=540.0, help="seconds after which nothing new is begun")
    running.add_argument("--records", type=Path, help="records.tar of an earlier call on another machine")
    running.add_argument("--device", default="", help="cpu or cuda; by default a GPU where there is one")
    running.add_argument("--size", choices=("full", "toy"), help="by default full on a GPU, toy on a CPU")
    running.add_argument("--set", type=_change, action="append", default=[], help="train.epochs=10, of the presets")
    running.set_defaults(call=run)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    if sentence := missing_packages():
        print(f"gpu.py: {sentence}", file=sys.stderr)
        return 2
    if importlib.util.find_spec("dclib") is None:
        sys.path.insert(1, str(_root()))  # nothing needs to be installed where there is no internet
    options = parser().parse_args(arguments)
    try:
        return int(options.call(options))
    except (ValueError, OSError) as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
