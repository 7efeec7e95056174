"""Buttons that open a page's notebook on a public machine: where it runs there, and only if the project has an address.

The address is that of ``_config.yml`` or CITATION.cff; without one there are no buttons. Colab knows nothing of the
project, so a notebook has to fetch it first: once there is an address, ``python -m dclib.press.launch`` gives every
notebook the cell that does, and Colab's button stands on no page whose notebook lacks it. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat.v4 import new_code_cell

from dclib.config import Preset
from dclib.planner.hardware import CPU, GPUS, Hardware, hardware_named
from dclib.planner.plan import Plan, make_plan
from dclib.planner.words import duration, gigabytes
from dclib.presets import project_root
from dclib.press.fields import measures
from dclib.press.notebooks import read_notebook
from dclib.press.stages import Stage
from dclib.records import write_atomically

GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
LONGEST = 24 * 3600.0  # seconds that one CPU or GPU may take before a page counts as one for many
FETCHES = "fetches-the-project"  # tag of the cell that a notebook begins with where the project is not there
FETCH = """\
# on a machine that has not got the project, such as Colab's, fetch it with what it needs
import importlib.util, subprocess, sys
if importlib.util.find_spec("dclib") is None:
    subprocess.run(["git", "clone", "--depth=1", "--branch={branch}", "{url}", "project"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", "project[book]"], check=True)
    sys.path.insert(0, "project")
"""


@dataclass(frozen=True)
class Address:
    """Where the project is published, on GitHub."""

    url: str
    branch: str

    @property
    def name(self) -> str:
        """Owner and project."""
        found = GITHUB.fullmatch(self.url)
        assert found is not None
        return f"{found[1]}/{found[2]}"


@dataclass(frozen=True)
class Host:
    """A public machine that opens notebooks, as far as its own pages promise it without pay."""

    name: str
    ram_bytes: float
    seconds: float  # of a session
    has_gpu: bool
    place: str  # of a notebook there
    is_prepared: bool  # by the project's environment; else the notebook has to fetch the project


HOSTS = (
    Host("Binder", 2e9, 6 * 3600, False, "https://mybinder.org/v2/gh/{name}/{branch}?urlpath=lab/tree/{path}", True),
    Host("Colab", 12e9, 12 * 3600, True, "https://colab.research.google.com/github/{name}/blob/{branch}/{path}", False),
)


@dataclass(frozen=True)
class Need:
    """What a page needs of a machine, with the networks that it looks at trained there."""

    gpus: int  # 0: a CPU will do; 2: more than one
    ram_bytes: float
    seconds: float
    on: str  # hardware that this is planned for

    @property
    def words(self) -> str:
        """In a sentence."""
        memory, time = gigabytes(self.ram_bytes), duration(self.seconds)
        machine = ("a CPU", "one GPU", "several GPUs")[self.gpus]
        trained = f" About {time} of training, planned for {self.on}." if self.seconds else " Nothing is trained."
        return f"This page needs {machine} and {memory} of memory.{trained}"


def address_of(root: Path | None = None) -> Address | None:
    """Where the project is published; None where nothing says so, or it is not where notebooks are opened from.

    Raises:
        ValueError: _config.yml and CITATION.cff name different places.
    """
    root = root or project_root()
    repository = _read(root / "_config.yml").get("repository") or {}
    named = [str(repository.get("url") or ""), str(_read(root / "CITATION.cff").get("repository-code") or "")]
    given = {url.removesuffix("/").removesuffix(".git") for url in named if url}
    if len(given) > 1:
        raise ValueError(f"need one address of the project in _config.yml and CITATION.cff; got {' and '.join(named)}")
    url = next(iter(given), "")
    return Address(url, str(repository.get("branch") or "main")) if GITHUB.fullmatch(url) else None


def _read(path: Path) -> Mapping[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found if isinstance(found, Mapping) else {}


def need_of(preset: Preset, stage: Stage) -> Need:
    """What a page needs: a CPU if its networks are trained there in a day, else a GPU if one will do."""
    named = [str(stage.parameters.get("method", "")), *(page.removeprefix("pretraining_") for page in stage.needs)]
    named += [preset.choice.method] if stage.page == "recipes" else []
    named = named if measures(read_notebook(stage.notebook)) else []
    methods = [name for name in dict.fromkeys(named) if name in preset.methods and preset.methods[name].trains]
    if not methods:
        return Need(0, CPU.base_bytes, 0.0, "")
    smallest = min((gpu for gpu in GPUS.values()), key=lambda gpu: gpu.memory_bytes)
    for gpus, hardware in enumerate((hardware_named("cpu"), smallest)):
        plans = [make_plan(preset, method, hardware) for method in methods]
        need = _need(plans, gpus, hardware, len(preset.seeds))
        if need.seconds <= LONGEST and not any(plan.problems for plan in plans):
            return need
    return Need(2, need.ram_bytes, need.seconds, need.on)


def _need(plans: Sequence[Plan], gpus: int, hardware: Hardware, seeds: int) -> Need:
    phases = [phase for plan in plans for phase in plan.phases]
    ram = max(phase.ram_bytes + (0.0 if hardware.is_gpu else phase.device_bytes) for phase in phases)
    return Need(gpus, ram, seeds * sum(plan.seconds for plan in plans), hardware.name)


def hosts_of(preset: Preset, stage: Stage, address: Address) -> Iterator[Host]:
    """The machines on which a page runs: its images are drawn there, and what it needs is there."""
    if not preset.data.is_drawn:
        return
    need = need_of(preset, stage)
    prepared = is_prepared(read_notebook(stage.notebook), address)
    for host in HOSTS:
        fits = need.ram_bytes <= host.ram_bytes and need.seconds <= host.seconds and need.gpus <= host.has_gpu
        if fits and (host.is_prepared or prepared):
            yield host


def launch_html(preset: Preset, stage: Stage, address: Address | None) -> str:
    """The buttons of a page, with what it needs; empty where it runs on no such machine."""
    hosts = list(hosts_of(preset, stage, address)) if address else []
    if not address or not hosts:
        return ""
    path = f"notebooks/{stage.notebook.name}"
    places = [host.place.format(name=address.name, branch=address.branch, path=path) for host in hosts]
    links = " ".join(
        f'<a class="dclib-button" href="{escape(place)}">Open in {host.name}</a>'
        for host, place in zip(hosts, places, strict=True)
    )
    given = [f"{name} = {stage.parameters[name]!r}" for name in ("preset", "method") if name in stage.parameters]
    opened = f"It opens with its own small defaults; write {' and '.join(given)} there for what is shown here."
    words = f"{need_of(preset, stage).words} {opened}"
    return f'<p class="dclib-launch">{links} <span class="dclib-hint">{escape(words)}</span></p>'


def is_prepared(notebook: Any, address: Address) -> bool:
    """Whether a notebook fetches the project from this address where it is not there."""
    return any(cell.source == _fetch(address) for cell in notebook.cells if FETCHES in cell.metadata.get("tags", ()))


def prepare(notebook: Any, address: Address | None) -> Any:
    """Give a notebook the cell that fetches the project, before its parameters, in place; none without an address."""
    notebook.cells = [cell for cell in notebook.cells if FETCHES not in cell.metadata.get("tags", ())]
    if address:
        tagged = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        tags = {"tags": [FETCHES, "remove-cell"]}
        cell = new_code_cell(_fetch(address), metadata=tags, id=FETCHES)  # type: ignore[no-untyped-call]
        notebook.cells.insert(tagged[0] if tagged else 0, cell)
    return notebook


def _fetch(address: Address) -> str:
    return FETCH.format(url=address.url, branch=address.branch)


def _main() -> None:
    address = address_of()
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        notebook = prepare(nbformat.read(path, as_version=4), address)  # type: ignore[no-untyped-call]
        text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        write_atomically(path, text.rstrip("\n").encode() + b"\n")
    print(f"notebooks fetch the project from {address.url}" if address else "no address, so no notebook fetches it")


if __name__ == "__main__":
    _main()
