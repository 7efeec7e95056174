"""The rules of the house: who may import whom, how long a function may be, what files must agree on."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement

from dclib.presets import load_preset
from dclib.press.notebooks import read_notebook
from dclib.press.site import STATUS_PAGE, toc_pages
from dclib.press.stages import ALONE, EVALUATIONS, ON_REQUEST, SUMMARIES
from dclib.press.status import STAGES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dclib"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PRESETS = sorted((ROOT / "notebooks" / "presets").glob("*.yaml"))

# a room imports its own modules and those of lower floors
FLOORS = {
    "preemption": -1,  # whoever waits heeds signals
    "methods": -1,  # which ways of pre-training there are
    **dict.fromkeys(("config", "paper", "reading", "records", "distributed", "precision", "randomness", "machine"), 0),
    "counted": 0.25,  # networks made of a preset's methods
    "presets": 0.5,  # settings from files, and the places of a project: sets are fetched to where a preset looks
    **dict.fromkeys(("data", "models", "cluster"), 1),
    "pocket": 1,  # the studio: it draws and writes the layouts that data reads, and neither knows the other
    **dict.fromkeys(("train", "planner"), 2),
    "evaluate": 3,
    "launch": 4,
    "analysis": 4,  # it groups the features of networks that evaluate stops by VOC2007
    "report": 5,  # what is shown
    "explore": 5.5,  # one's own photographs: a folder in, answers out, and the network to take away
    "press": 6,  # running notebooks and printing the book: it knows pages, and no page knows it
    "__main__": 7,
}
TORCHLESS = (
    "config",
    "counted",
    "machine",
    "methods",
    "paper",
    "planner",
    "pocket",
    "presets",
    "press",
    "reading",
    "records",
    "report",
)  # the book builds where torch is absent
CARD = ("jupyter-book", "torch", "torchvision", "faiss-gpu", "papermill", "matplotlib", "seaborn", "nbval")
WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "faiss"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
LONGEST_FUNCTION = 60  # lines
LONGEST_NOTEBOOK_FUNCTION = 3

# written so that this file does not match itself
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|home|Users|tmp|opt)/" + r"\w|\b[A-Z]:\\Users")
REGISTRY_HOST = re.compile(r"pypi\." + r"org|pythonhosted\." + r"org|--(extra-)?index" + r"-url|--find" + r"-links")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Dotted names that a module may import, at the top or inside a function, relative ones made absolute."""
    package = ["dclib", *path.relative_to(PACKAGE).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return names


def text_files() -> list[Path]:
    """What people read, without generated and installed files, and without the tests that hold bad examples."""
    folders = ["dclib", "tests", "notebooks", "book", "benchmarks", ".ci", ".github"]
    left_out = ("book/stages", "book/_generated", "book/_extra", "tests/test_house.py", "tests/test_site.py")
    found = [p for f in folders for p in (ROOT / f).rglob("*") if p.is_file()]
    found += [p for p in ROOT.iterdir() if p.is_file() and p.name != ".git"]
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".cfg", ".cff", ".ipynb", ".lock", ".bib", ""}
    kept = [p for p in found if p.suffix in suffixes and "__pycache__" not in p.parts]
    return [p for p in kept if not p.relative_to(ROOT).as_posix().startswith(left_out)]


def functions(code: str) -> list[tuple[str, int]]:
    """Name and number of lines of every function, from ``def`` to its last line."""
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(n.name, (n.end_lineno or n.lineno) - n.lineno + 1) for n in nodes]


# the library


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in modules()} - {"__init__"}
    assert rooms <= FLOORS.keys(), "give the new room a floor in FLOORS"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_room_imports_lower_floors_only(path):
    room = room_of(path)
    for name in imports_of(path):
        if name.startswith("dclib.") and room != "__init__":
            other = name.split(".")[1]
            if other in FLOORS and other != room:
                assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {name}"


def test_pages_and_loaders_know_nothing_of_what_uses_them():
    """A notebook calls what is shown, never what runs it; a loader never draws."""
    for path in NOTEBOOKS:
        code = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "code")
        assert "dclib.press" not in code, path.name
    loaders = [path for path in modules() if room_of(path) == "data" and path.stem != "layouts"]
    assert [path.name for path in loaders if "dclib.data.layouts" in imports_of(path)] == []


def imports_within() -> dict[str, set[str]]:
    """Each module of dclib, and those of its modules that it imports, inside functions and for types too."""
    names = {
        path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules()
    }
    return {name: imports_of(path) & set(names.values()) for path, name in names.items()}


def circle_in(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again at its end; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_modules_import_each_other_in_a_circle():
    imports = imports_within()
    assert {"dclib.data.images", "dclib.records"} <= imports["dclib.train.runs"]  # the walk sees what there is
    assert circle_in(imports) == []


def test_a_training_and_a_book_start_without_what_takes_long_to_load_and_may_not_be_needed():
    """Each takes half as long to load as torch; a page that measures by one of them has to wait for it anyway."""
    measures = {"analysis/metadata", "analysis/metadata_queries", "evaluate/voc"}
    for path in modules():
        at_the_top = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {alias.name for node in at_the_top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in at_the_top if isinstance(node, ast.ImportFrom) and node.module}
        module = path.relative_to(PACKAGE).with_suffix("").as_posix()
        assert module in measures or not {name.split(".")[0] for name in names} & {"sklearn", "seaborn"}, module


def test_only_distributed_imports_torch_distributed():
    users = {room_of(p) for p in modules() if any(n.startswith("torch.distributed") for n in imports_of(p))}
    assert users <= {"distributed"}


def test_the_book_builds_where_torch_is_absent():
    """Import every module that the book needs, in a Python where ``import torch`` fails."""
    names = [
        "dclib." + ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for p in modules()
        if room_of(p) in TORCHLESS
    ]
    code = f"{WITHOUT_TORCH}\nimport importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_importing_the_library_says_nothing():
    names = [".".join(("dclib", *p.relative_to(PACKAGE).with_suffix("").parts)) for p in modules()]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_function_is_longer_than_a_screen(path):
    long = [f for f in functions(path.read_text(encoding="utf-8")) if f[1] > LONGEST_FUNCTION]
    assert not long


def test_no_page_opens_an_image_unguarded():
    """``pictures.open_to_show`` alone: an image that cannot be read must not cost a page."""
    opening = re.compile(r"\b(images|pool|plain|shown)(\.open\(|\.read\(|\[0\])|(?<!pictures )import decode_rgb")
    guard = re.compile(r"^def (open_to_show|_can_be_read)\b.*?(?=^\S)", re.MULTILINE | re.DOTALL)
    shown = [path for path in modules() if room_of(path) in ("report", "press")]
    sources = {path.name: guard.sub("", path.read_text()) for path in shown}
    sources |= {path.name: path.read_text() for path in NOTEBOOKS}
    assert [name for name, text in sources.items() if opening.search(text)] == []


def test_there_is_no_cupboard():
    assert not [p.name for p in modules() if p.stem in ("utils", "util", "common", "misc", "helpers")]


def test_no_file_names_a_machine_or_a_registry():
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found


@pytest.mark.parametrize(
    ("line", "is_one"),
    [("in /wo" + "rk/main", True), ("'/ho" + "me/me'", True), ("a/home/b", False), ("/homepage", False)],
)
def test_machine_paths_are_told_from_others(line, is_one):
    assert bool(MACHINE_PATH.search(line)) == is_one


# packages


def pyproject_requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    found = [Requirement(line) for line in [*project["dependencies"], *extras]]
    return {requirement.name: requirement for requirement in found}


def test_environment_yml_is_in_step_with_pyproject():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [d for d in dependencies if isinstance(d, str)]
    (pip,) = [d["pip"] for d in dependencies if isinstance(d, dict)]
    assert pip[-1] == "-e ."
    listed = {r.name: r for r in map(Requirement, pip[:-1])}
    assert {n: str(r) for n, r in listed.items()} == {n: str(r) for n, r in pyproject_requirements().items()}
    assert set(CARD) <= listed.keys()
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert conda == [f"python{python}", "pip"]


def test_requirements_lock_holds_every_package_within_its_bounds():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1] not in "#"]
    locked: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        locked.setdefault(requirement.name.lower(), []).append(requirement)
    for name, wanted in pyproject_requirements().items():
        assert name.lower() in locked, f"{name} is not locked; run: make lock"
        for pin in locked[name.lower()]:
            (specifier,) = pin.specifier
            assert specifier.operator == "=="
            assert wanted.specifier.contains(specifier.version), f"{pin} is outside {wanted}; run: make lock"


# presets and notebooks


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_is_valid_and_says_what_it_is(path):
    preset = load_preset(path)
    assert preset.description
    for method in preset.methods.values():
        # images are kept at data.resize: a larger network would only see them enlarged
        assert method.model.image_size <= preset.data.resize


def test_the_presets_and_notebooks_are_there():
    assert {path.stem for path in PRESETS} >= {"smoke", "pocket", "cifar10", "stl10", "imagenette", "folder"}
    stages = {"01_data", "02_pretraining", *EVALUATIONS.values(), *ON_REQUEST.values(), *SUMMARIES.values(), *ALONE}
    assert {path.stem for path in NOTEBOOKS} == stages


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_valid_bare_and_runs_on_any_python3(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebooks_parameters_are_typed_explained_and_of_the_smoke_preset(path):
    notebook = read_notebook(path)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    parameters = papermill.inspect_notebook(notebook)
    for parameter in parameters.values():
        assert parameter["inferred_type_name"] != "None", f"{parameter['name']} has no annotated type"
        assert parameter["help"], f"{parameter['name']} has no comment behind it"
    defaults = {name: ast.literal_eval(parameter["default"]) for name, parameter in parameters.items()}
    assert {name: defaults.get(name) for name in ("preset", "data", "settings")} == {
        "preset": "smoke",
        "data": "",
        "settings": {},
    }
    if "method" in defaults:
        load_preset("smoke").method(defaults["method"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_defines_nothing_of_weight(path):
    code = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "code")
    assert not [f for f in functions(code) if f[1] > LONGEST_NOTEBOOK_FUNCTION]


# the book


def test_the_table_of_contents_lists_pages_that_exist():
    pages = toc_pages(ROOT / "book" / "_toc.yml")
    assert len(pages) == len(set(pages))
    preset = load_preset("pocket")
    stages = ["data", *(f"pretraining_{method}" for method in preset.methods), *EVALUATIONS, *SUMMARIES]
    made = {f"{STAGES}/{stage}" for stage in stages}
    assert made <= set(pages), "a page of the default preset is in no chapter"
    for page in set(pages) - made - {STATUS_PAGE}:
        assert any((ROOT / "book" / f"{page}{suffix}").is_file() for suffix in (".md", ".ipynb")), page


def test_every_story_page_is_in_the_table_of_contents():
    pages = set(toc_pages(ROOT / "book" / "_toc.yml"))
    written = {p.relative_to(ROOT / "book").with_suffix("").as_posix() for p in (ROOT / "book").glob("*.md")}
    assert written <= pages
