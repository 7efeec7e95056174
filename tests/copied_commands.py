"""A project whose programs say what they were given, and what papermill and dclib take from that."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import papermill.cli
from click.testing import CliRunner

from dclib.__main__ import _parser, _settings

ROOT = Path(__file__).resolve().parent.parent
STUB = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"


def copy_project(folder):
    """A folder with the project's Makefile whose Python and papermill say what they were given."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "requirements.lock"):
        (folder / name).touch()
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "papermill"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    time.sleep(0.01)
    (folder / ".venv" / ".installed").touch()
    return folder


def heard(folder, commands):
    """What the program behind each command was given, by a shell that is told all of them."""
    alone = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    shell = ["sh", "-c", "\n".join(commands)]  # even where make runs the tests
    done = subprocess.run(shell, cwd=folder, env=alone, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def asked_of_papermill(words, monkeypatch):
    """The notebook and parameters that papermill takes from its command line."""
    asked = {}
    monkeypatch.setattr(papermill.cli, "execute_notebook", lambda **given: asked.update(given))
    done = CliRunner().invoke(papermill.cli.papermill, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (asked["kernel_name"], asked["input_path"][:10]) == ("python3", "notebooks/")
    return asked["parameters"]


def asked_of_make(words):
    """Preset, folder and settings that dclib takes from the command that make runs."""
    assert words[:2] == ["-m", "dclib"]
    options = _parser().parse_args(words[2:])
    return options.preset, options.data, _settings(options)
