"""The door: ``python -m dclib run | book | fetch | publish | replay | presets | released | score | pretrain | ...``.

Each sub-command builds a preset and calls the room that does the work, imported on the way so that ``run``
and ``book`` start without torch. What the caller can mend is one sentence on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from dclib.config import Preset
from dclib.explore.commands import add_commands
from dclib.machine import count_cores, take_free_cores
from dclib.preemption import EXIT_STATUS, tell
from dclib.presets import data_root, load_preset, preset_folder, project_root, runs_folder
from dclib.press.commands import add_commands as add_press_commands

if TYPE_CHECKING:
    from dclib.planner.hardware import Hardware
    from dclib.press.runner import Outcome
    from dclib.train.runnable import Outlook

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns its exit status.

    0, or 1 for a stage, build or training that failed, a replay that gives other numbers or a process that was lost,
    2 for bad input, 75 for a pre-training that a signal asked to leave: the same command continues it.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except (ValueError, OSError, yaml.YAMLError) as error:
        tell(" ".join(_told(error).split()))
        return MISUSED
    except FloatingPointError as error:  # a training that has diverged
        tell(error)
        return FAILED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("papermill", "nbformat", "nbclient"):
            raise
        tell(f"need {error.name} to run notebooks; install with: pip install '.[book]'")
        return MISUSED
    except KeyboardInterrupt:
        tell("interrupted; what was finished is kept, and the same command continues")
        return INTERRUPTED
    return status


def _told(error: Exception) -> str:
    """What an error says; of one that is the system's own words, which file it is about and what to look at."""
    if not (isinstance(error, OSError) and error.filename and str(error).startswith("[Errno")):
        return str(error)
    name = os.fsencode(error.filename).decode("utf-8", "backslashreplace")
    return f"cannot use {name}: {error.strerror}; see that it is there, and that this user may read or write it"


def _run(options: argparse.Namespace) -> int:
    from dclib.press.runner import run_preset

    return _report(run_preset(options.preset, data=options.data, settings=_settings(options), **_run_options(options)))


def _run_options(options: argparse.Namespace) -> dict[str, Any]:
    timeout = {"timeout": options.timeout} if options.timeout else {}
    return {"jobs": options.jobs, "force": options.force, **timeout}


def _report(outcomes: Mapping[str, Outcome]) -> int:
    """Say which pages were not made; the exit status."""
    bad = [page for page, outcome in outcomes.items() if outcome.is_missing]
    if bad:
        tell(f"{len(bad)} of {len(outcomes)} pages are missing or old: {', '.join(bad)}")
    return FAILED if bad else 0


def _book(options: argparse.Namespace) -> int:
    from dclib.press.book import Wanted, make_book
    from dclib.press.site import BuildError

    wanted = Wanted(options.preset, options.data, _settings(options), options.out)
    outcomes = {}
    try:
        if options.build_only:
            wanted.build()
        else:
            outcomes = make_book(wanted, train=options.train, **_run_options(options))
    except BuildError as error:
        tell(error)
        return FAILED
    status = _report(outcomes)
    print(f"the book: {os.path.relpath(wanted.html / 'index.html')}")
    return status


def _fetch(options: argparse.Namespace) -> int:
    from dclib.data.fetch import fetch_set, told
    from dclib.data.public_sets import SETS, place_of

    if not options.set:
        for name, one in SETS.items():
            print(told(one, place_of(name, options.to)))
    elif options.set in SETS:
        fetch_set(SETS[options.set], place_of(options.set, options.to), source=options.source, report=_say)
    else:
        raise ValueError(f"need one of {', '.join(SETS)} to fetch; got {options.set!r}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _publish(options: argparse.Namespace) -> int:
    from dclib.press.publish import publish

    folder = publish(load_preset(options.preset, _settings(options)))
    print(f"published: {os.path.relpath(folder)}")
    return 0


def _release_notes(options: argparse.Namespace) -> int:
    from dclib.press.release_notes import notes_since

    print(notes_since(options.old), end="")
    return 0


def _network(options: argparse.Namespace) -> int:
    from dclib.explore.page_network import write_page_network

    write_page_network(_with_data(options), options.out, _say)
    return 0


def _replay(options: argparse.Namespace) -> int:
    from dclib.train.replay import record, replay

    preset = _with_data(options)
    results = project_root() / "results" / preset.name
    if options.record:
        record(preset, results, _say)
        return 0
    return 0 if replay(preset, results, _say) else FAILED


def _presets(options: argparse.Namespace) -> int:
    if options.name:
        print(yaml.safe_dump(_plain(load_preset(options.name)), sort_keys=False, allow_unicode=True).rstrip())
        return 0
    for path in sorted(preset_folder().glob("*.yaml")):
        preset = load_preset(path.stem)
        print(f"{preset.name}\n    {preset.description}\n    {_summary(preset)}")
    print("\nAll settings of one: python -m dclib presets NAME. Change them with --set section.key=value.")
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from dclib.distributed import PeerLostError
    from dclib.explore.tensorboard import logging_runs
    from dclib.launch import LaunchError, train_as_one_of_many, train_network
    from dclib.preemption import PreemptedError

    preset, seeds = _chosen(options)
    try:
        with logging_runs(runs_folder() / preset.name / "runs", options.tensorboard):
            if options.processes == 1:
                train_as_one_of_many(preset, options.method, seeds)
            else:
                for seed in seeds:
                    train_network(preset, options.method, seed, processes=options.processes)
    except PreemptedError as error:
        tell(error)
        return EXIT_STATUS
    except (PeerLostError, LaunchError) as error:
        tell(error)
        return FAILED
    return 0


def _submit(options: argparse.Namespace) -> int:
    from dclib.launch import SlurmTraining, slurm_parameters, slurm_script, submit

    preset, seeds = _chosen(options)
    parameters = slurm_parameters(
        options.method,
        nodes=options.nodes,
        gpus_per_node=options.gpus_per_node,
        minutes=options.minutes,
        partition=options.partition,
        more={key: str(value) for key, value in _pairs(options.slurm, "--slurm", "account=vision").items()},
    )
    if options.dry_run:
        print(slurm_script(preset, parameters))
    else:
        print(f"submitted: job {submit(SlurmTraining(preset, options.method, seeds), parameters)}")
    return 0


def _probe(options: argparse.Namespace) -> int:
    from dclib.distributed import is_launched
    from dclib.evaluate.runs import probe_method

    if is_launched():
        raise ValueError("linear classifiers are trained by one process; start this command without torchrun")
    preset, seeds = _chosen(options)
    outlook = _outlook(preset)
    why = [
        outlook.left_out[page]
        for page in (f"pretraining_{options.method}", "linear_probes")
        if page in outlook.left_out
    ]
    if why:
        raise ValueError(f"there is nothing to probe {options.method} with: {why[0]}")
    for line in outlook.notes:
        print(line)
    for seed in seeds:
        probe_method(preset, options.method, seed)
    return 0


def _released(options: argparse.Namespace) -> int:
    from dclib.models.released import describe, load_released

    print(describe(load_released(options.file, allow_partial=options.allow_partial)))
    return 0


def _score(options: argparse.Namespace) -> int:
    from dclib.evaluate.descriptor_files import score_files

    ranked = score_files(options.ground_truth, options.queries, options.images)
    for one in ranked:
        print(f"{one.query.name:24} {100 * one.average_precision:5.1f} %")
    mean = sum(one.average_precision for one in ranked) / len(ranked)
    print(f"{'mean average precision':24} {100 * mean:5.1f} % over {len(ranked)} queries")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from dclib.planner.hardware import THIS, hardware_named
    from dclib.planner.plan import make_plan, plan_lines, total

    if options.supplement:
        return _plan_supplement(options)
    preset = _with_data(options)
    hardware = hardware_named("cpu" if options.gpu == THIS else options.gpu)
    if options.method:
        preset.method(options.method)  # a name that is wrong is found out before images are counted
    outlook = _outlook(preset)
    if why := outlook.left_out.get(f"pretraining_{options.method}"):
        raise ValueError(f"{options.method} cannot be trained: {why}")
    trained = [name for name in outlook.methods if preset.method(name).method != "random"]
    methods = [options.method] if options.method else trained
    preset, labelled = _counted(preset, outlook)
    if options.gpu == THIS:
        for method in methods:  # what cannot be planned is found out before anything is measured
            make_plan(preset, method, hardware, processes=options.gpus, n_images=options.images, labelled=labelled)
        hardware = _calibrated(preset, options.gpus)
    given = {"processes": options.gpus, "n_images": options.images, "disk_bytes": _room(options)}
    plans = {method: make_plan(preset, method, hardware, labelled=labelled, **given) for method in methods}
    for line in outlook.lines:
        print(line)
    for method, plan in plans.items():
        if plan.refusal:
            raise ValueError(f"{method}: {plan.refusal}")
        print("\n".join([f"{preset.name}, {method}", *plan_lines(plan)]))
    if len(plans) > 1:
        print(total(list(plans.values())))
    return 0


def _plan_supplement(options: argparse.Namespace) -> int:
    from dclib.planner.hardware import THIS, hardware_named
    from dclib.planner.supplement import PRESETS, price_supplement, supplement_lines

    if options.method or options.images or options.data:
        raise ValueError(
            f"--supplement plans all methods of {', '.join(PRESETS)}, with the paper's numbers of images; "
            "leave out --method, --images and --data, or name one preset with --preset"
        )
    given = {"processes": options.gpus, "settings": _settings(options), "disk_bytes": _room(options)}
    prices = price_supplement(hardware_named("cpu" if options.gpu == THIS else options.gpu), **given)
    if options.gpu == THIS and not prices.refusal:
        prices = price_supplement(_calibrated(load_preset(PRESETS[0]), options.gpus), **given)
    if prices.refusal:
        raise ValueError(prices.refusal)
    print("\n".join(supplement_lines(prices)))
    return 0


def _calibrated(preset: Preset, processes: int) -> Hardware:
    """What each of so many processes of this machine does, measured where it has not been."""
    from dclib.planner.calibration import this_machine

    cores = count_cores()
    threads, beside = max(1, cores // processes), min(cores, processes)
    return this_machine(preset, threads=threads, beside=beside, report=partial(print, file=sys.stderr))


def _room(options: argparse.Namespace) -> float:
    """Bytes of disk that a run may take."""
    return float(options.disk * 1e9) if options.disk else float("inf")


def _outlook(preset: Preset) -> Outlook:
    """What a preset's folder is enough for; of one that is not here nothing is said."""
    from dclib.train.runnable import Outlook, look_ahead

    here = not preset.data.root or data_root(preset.data).exists()
    return look_ahead(preset) if here else Outlook(tuple(preset.methods), {}, (), {})


def _counted(preset: Preset, outlook: Outlook) -> tuple[Preset, tuple[int, int, int] | None]:
    """The preset with the number of its folder's images, and that of labelled ones, test images and classes.

    A preset without a folder, or whose folder is not here, is left as it is, and nothing is said of labels.
    """
    counts = outlook.counts
    if "pool" not in counts:
        return preset, None
    data = dataclasses.replace(preset.data, pool_images=counts["pool"])
    labelled = counts.get("objects_train", 0), counts.get("objects_test", 0), outlook.n_classes
    return dataclasses.replace(preset, data=data), labelled if outlook.n_classes else (0, 0, 0)


def _with_data(options: argparse.Namespace) -> Preset:
    """The preset of a sub-command, with the folder of images that it names."""
    # as the notebooks see it: relative paths start at the project's root
    data = os.path.relpath(options.data, project_root()) if options.data else ""
    data = options.data if os.path.isabs(options.data) else data
    return load_preset(options.preset, {**({"data.root": data} if data else {}), **_settings(options)})


def _chosen(options: argparse.Namespace) -> tuple[Preset, tuple[int, ...]]:
    """The preset of a sub-command, and the seeds to run; checks the method, and that there are images."""
    from dclib.data.public_sets import check_images

    preset = _with_data(options)
    preset.method(options.method)
    check_images(preset)
    return preset, preset.seeds if options.seed is None else (options.seed,)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The ``--set key=value`` pairs, values read as YAML, and ``--seeds 3`` for seeds 0, 1 and 2."""
    settings = _pairs(options.settings, "--set", "train.epochs=2")
    if options.seeds is not None:
        if options.seeds < 1:
            raise ValueError(f"--seeds needs a number of seeds, 1 or more; got {options.seeds}")
        settings["seeds"] = list(range(options.seeds))
    return settings


def _pairs(pairs: Sequence[str], option: str, example: str) -> dict[str, Any]:
    """``key=value`` pairs of an option that can be given many times, values read as YAML."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"{option} needs key=value, such as {example}; got {pair!r}")
        found[key.strip()] = yaml.safe_load(value) if value else ""
    return found


def _summary(preset: Preset) -> str:
    images = preset.data.root or f"pocket world of {preset.data.pocket_images} images"
    seeds = f"{len(preset.seeds)} seed{'s'[: len(preset.seeds) != 1]}"
    return f"{images}; {seeds}; {', '.join(preset.methods)}"


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as what YAML can write."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dclib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="execute the notebooks of a preset that are not up to date")
    book = commands.add_parser("book", help="run, then build the book")
    book.add_argument("--out", default="", help="where the book goes (default: _build/html in the project)")
    book.add_argument(
        "--train",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train and measure here; else the book is the published one (default: train)",
    )
    book.add_argument("--build-only", action="store_true", help="build from the pages there are, run nothing")
    for command, function in ((run, _run), (book, _book)):
        _add_preset_options(command)
        command.add_argument("--jobs", type=int, help="stages at work at once (default: one per core, at most 4)")
        command.add_argument("--force", action="store_true", help="run stages that are up to date as well")
        command.add_argument("--timeout", type=int, help="seconds one cell may take (default: a week)")
        command.set_defaults(command=function)
    _add_fetch(commands.add_parser("fetch", help="get a public set of images, or list those there are"))
    publish = commands.add_parser("publish", help="copy a preset's records and figure to results/")
    _add_preset_options(publish)
    publish.set_defaults(command=_publish)
    _add_release_notes(commands.add_parser("release-notes", help="what records say otherwise than an older commit's"))
    replay = commands.add_parser("replay", help="see whether the code of now gives the published networks' first steps")
    _add_preset_options(replay)
    replay.add_argument("--record", action="store_true", help="keep them instead, beside the records just published")
    replay.set_defaults(command=_replay)
    _add_network(commands.add_parser("network", help="write the trained networks that a page of the book runs"))
    presets = commands.add_parser("presets", help="list the presets, or show all settings of one")
    presets.add_argument("name", nargs="?", help="a preset's name or path")
    presets.set_defaults(command=_presets)
    _add_released(commands.add_parser("released", help="say what a file of weights holds"))
    score = commands.add_parser("score", help="mean average precision of descriptors computed elsewhere")
    score.add_argument("ground_truth", help="folder of Oxford5K's or Paris6K's text files, or gnd_*.pkl")
    score.add_argument("queries", help=".npy of (queries, d), in the order of the ground truth")
    score.add_argument("images", nargs="?", help=".npy of (images, d) (default: the queries' own images)")
    score.set_defaults(command=_score)
    for name, function, says in (
        ("pretrain", _pretrain, "pre-train one method, or continue it"),
        ("submit", _submit, "hand the pre-training of one method to SLURM, by submitit"),
        ("probe", _probe, "train linear classifiers on a pre-trained method's layers"),
    ):
        command = commands.add_parser(name, help=says)
        _add_preset_options(command)
        command.add_argument("--method", required=True, help="one of the preset's methods")
        command.add_argument("--seed", type=int, help="one seed (default: all of the preset's)")
        command.set_defaults(command=function)
        if function is _pretrain:
            command.add_argument("--processes", type=int, default=1, help="local processes that share the training")
            command.add_argument("--tensorboard", action="store_true", help="a log for TensorBoard in the run's folder")
        if function is _submit:
            _add_slurm_options(command)
    add_commands(commands)
    add_press_commands(commands)
    plan = commands.add_parser("plan", help="estimate seconds, memory, disk and traffic before anything runs")
    _add_plan_options(plan)
    plan.set_defaults(command=_plan)
    return parser


def _add_released(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", help="path of the file: a published one, torchvision's, or your own checkpoint.pt")
    command.add_argument("--allow-partial", action="store_true", help="take what fits instead of refusing")
    command.set_defaults(command=_released)


def _add_release_notes(command: argparse.ArgumentParser) -> None:
    command.add_argument("old", nargs="?", default="", help="a tag or commit (default: the last tag there is)")
    command.set_defaults(command=_release_notes)


def _add_fetch(command: argparse.ArgumentParser) -> None:
    command.add_argument("set", nargs="?", default="", help="cifar10, ...; without it, what there is")
    command.add_argument(
        "--to", default="", metavar="FOLDER", help="the set gets a folder of its name in this one (default: data)"
    )
    command.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="PLACE",
        help="address of a mirror's folder, or the archives' folder here, or the file (default: their authors' own)",
    )
    command.set_defaults(command=_fetch)


def _add_network(command: argparse.ArgumentParser) -> None:
    _add_preset_options(command)
    command.add_argument("--out", default="", metavar="FOLDER", help="where they go (default: network with the runs)")
    command.set_defaults(command=_network)


def _add_plan_options(command: argparse.ArgumentParser) -> None:
    _add_preset_options(command)
    command.add_argument("--method", default="", help="one of the preset's methods (default: all that train)")
    command.add_argument(
        "--supplement", action="store_true", help="all networks and tests of the supplement's Tables 1 to 4 instead"
    )
    command.add_argument(
        "--images", type=int, default=0, metavar="N", help="images to pre-train on (default: those there are)"
    )
    command.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs, or processes of the CPU (default: 1)")
    command.add_argument(
        "--gpu",
        default="this",
        metavar="NAME",
        help="h100, a100-80gb, ..., cpu, the one of the published record, or this (default), this machine's CPU",
    )
    command.add_argument(
        "--disk", type=float, default=0.0, metavar="GB", help="room for the run's files (default: any)"
    )


def _add_slurm_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    command.add_argument("--gpus-per-node", type=int, default=1, help="GPUs of each, a task for each (default: 1)")
    command.add_argument("--partition", default="", help="SLURM partition (default: the cluster's own)")
    command.add_argument("--minutes", type=int, default=60, help="until the job is queued again (default: 60)")
    command.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="more for sbatch: account=vision, ..."
    )
    command.add_argument("--dry-run", action="store_true", help="print the batch script instead")


def _add_preset_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--preset", default="pocket", help="a preset's name, or the path of a .yaml file")
    command.add_argument("--data", default="", help="folder of the images (default: the preset's own)")
    command.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="train.epochs=2, ..."
    )
    command.add_argument("--seeds", type=int, metavar="N", help="run seeds 0 to N-1 (default: the preset's own)")


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that a terminal cannot show
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill also ends the stages at work
    if sys.argv[1:2] in (["pretrain"], ["probe"]) and (fewer := take_free_cores()):  # others start processes, or count
        print(fewer, flush=True)
    ended = main()
    if ended in (EXIT_STATUS, INTERRUPTED) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        os._exit(ended)  # what is left behind waits for another process, and an orderly end would wait for it
    sys.exit(ended)
