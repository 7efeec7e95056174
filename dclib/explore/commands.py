"""Sub-commands for one's own photographs and for what was trained on them; see ``python -m dclib``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from dclib.preemption import EXIT_STATUS, tell

say = partial(print, flush=True)


def add_commands(commands: Any) -> None:
    """Add the parsers to those of ``python -m dclib``."""
    explore = commands.add_parser("explore", help="a folder of photographs in, a folder of answers out")
    explore.add_argument("photographs", help="their folder, with sub-folders; nothing is written there")
    explore.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        metavar="N",
        help="that it may take in all; more of them, later, go on (default: 30)",
    )
    explore.add_argument(
        "--out", default="", metavar="FOLDER", help="for the answers (default: explored/NAME with the runs)"
    )
    explore.add_argument("--sort", choices=("link", "copy"), default="", help="also into a folder for each cluster")
    explore.add_argument("--tensorboard", action="store_true", help="log the training for TensorBoard as well")
    explore.set_defaults(command=_explore)
    export = commands.add_parser("export", help="write a trained network for others: safetensors, ONNX, a card")
    export.add_argument(
        "run", help="folder of a training run or of an exploration, or a checkpoint.pt, or a name that runs lists"
    )
    export.add_argument("--out", default="", metavar="FOLDER", help="where it goes (default: export below the run)")
    export.set_defaults(command=_export)
    embed = commands.add_parser("embed", help="features, clusters and neighbours of new photographs")
    embed.add_argument(
        "run", help="folder of a training run, of an exploration, or of an export, or a name that runs lists"
    )
    embed.add_argument("photographs", help="a folder of them, a .tar or a list")
    embed.add_argument("--out", default="", metavar="FOLDER", help="where it goes (default: embedded below it)")
    embed.add_argument("--pool", default="", metavar="FOLDER", help="what the network learned from, if no preset says")
    embed.add_argument("--neighbours", type=int, default=10, metavar="N", help="of each; 0: none (default: 10)")
    embed.set_defaults(command=_embed)
    runs = commands.add_parser("runs", help="list runs and explorations, or compare two")
    runs.add_argument("folder", nargs="?", default="", help="below which they lie (default: where runs are kept)")
    runs.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two of them, by name or folder")
    runs.add_argument("--json", action="store_true", help="as JSON")
    runs.add_argument("--tensorboard", action="store_true", help="write the history of each as a TensorBoard log too")
    runs.set_defaults(command=_runs)


def _explore(options: argparse.Namespace) -> int:
    from dclib.data.folders import named_path
    from dclib.explore.explore import answers_folder, explore
    from dclib.explore.found import NETWORK
    from dclib.explore.tensorboard import logging_runs
    from dclib.preemption import PreemptedError, heed_signals

    try:
        network = answers_folder(named_path(options.photographs), options.out) / NETWORK
        with heed_signals(), logging_runs(network, options.tensorboard):
            explore(options.photographs, out=options.out, minutes=options.minutes, sort=options.sort, report=say)
    except PreemptedError as error:
        tell(error)
        return EXIT_STATUS
    return 0


def _export(options: argparse.Namespace) -> int:
    from dclib.explore.export import export_run
    from dclib.explore.glance import run_place

    export_run(run_place(options.run), options.out, say)
    return 0


def _embed(options: argparse.Namespace) -> int:
    from dclib.explore.embed import embed
    from dclib.explore.glance import run_place

    run = run_place(options.run)
    embed(run, options.photographs, options.out, pool=options.pool, neighbours=options.neighbours, report=say)
    return 0


def _runs(options: argparse.Namespace) -> int:
    from dclib.explore.glance import compare, listing

    if options.tensorboard:
        from dclib.explore.tensorboard import log_runs

        log_runs(options.folder, say)
    if options.compare:
        one, other = options.compare
        print(compare(one, other, options.folder, options.json))
    else:
        print(listing(options.folder, options.json))
    return 0
