"""What runs elsewhere runs here: workflows, image and container call the Makefile and .ci, with least rights."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^\s*(?:- )?uses: (actions/[\w-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+$")
# what a job may do besides reading, and the one step that needs it
WRITES = {
    ("publish", "deploy"): ({"pages": "write", "id-token": "write"}, "actions/deploy-pages"),
    ("release", "announce"): ({"contents": "write"}, ".ci/announce"),
}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
IMAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def jobs() -> list[Any]:
    found = [(path, name, job) for path in WORKFLOWS for name, job in read(path)["jobs"].items()]
    return [pytest.param(path, name, job, id=f"{path.stem}-{name}") for path, name, job in found]


def check_command(command: str) -> None:
    """A line of a workflow or of an image: a target of the Makefile, or a script of ours that can be run."""
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = [word for word in arguments if "=" not in word]
        assert targets, command
        assert set(targets) <= TARGETS, command
        return
    assert program.startswith(".ci/"), command
    assert os.access(ROOT / program, os.X_OK), command


def test_there_is_a_workflow_for_each_purpose() -> None:
    assert [path.stem for path in WORKFLOWS] == ["myst", "publish", "release", "test"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_and_one_action_has_one_pin(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not PINNED.match(line)] == []
    everywhere = [PINNED.match(line) for other in WORKFLOWS for line in other.read_text().splitlines()]
    pins = {(found[1], found[0].split("@")[1]) for found in everywhere if found}
    assert len({action for action, _ in pins}) == len(pins)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_reads_and_does_not_run_twice_at_once(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow["concurrency"]) == {"group", "cancel-in-progress"}
    assert "pull_request_target" not in path.read_text()
    assert "secrets." not in path.read_text()


@pytest.mark.parametrize(("path", "name", "job"), jobs())
def test_a_job_may_do_what_its_last_step_needs_and_no_more(path: Path, name: str, job: dict[str, Any]) -> None:
    rights, needs = WRITES.get((path.stem, name), (None, ""))
    assert job.get("permissions") == rights
    assert needs in str(job["steps"][-1].get("uses", job["steps"][-1].get("run")))
    assert 0 < job["timeout-minutes"] <= 90
    assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])
    for step in job["steps"]:
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        if rights:  # nothing that was downloaded for the book runs where something can be written
            assert not step.get("run", "").startswith("make")


@pytest.mark.parametrize(("path", "name", "job"), jobs())
def test_each_command_runs_here_too(path: Path, name: str, job: dict[str, Any]) -> None:
    for step in job["steps"]:
        assert len({"run", "uses"} & set(step)) == 1
        if "run" in step:
            assert "${{" not in step["run"]  # nothing that somebody else writes becomes a command
            check_command(step["run"])


def test_the_tests_elsewhere_are_those_at_home() -> None:
    (job,) = read(ROOT / ".github" / "workflows" / "test.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    commands = {line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()}
    readme = (ROOT / "README.md").read_text()
    for command in ("make test", "make book"):
        assert re.search(rf"^{command} ", readme, re.MULTILINE)
        assert any(line.split(" PRESET=")[0] == command for line in commands)
    steps = [
        step["run"]
        for path in WORKFLOWS
        if path.stem in ("publish", "release")
        for step in read(path)["jobs"]["build"]["steps"]
        if "run" in step
    ]
    assert steps == ["make published", ".ci/check _build/published", "make release", ".ci/check _build/published"]
    assert "make published" in commands
    assert '.ci/check "$site"' in commands


def test_what_is_uploaded_is_what_is_made() -> None:
    made = {"publish": "_build/published", "release": "_build/release"}
    for name, folder in made.items():
        steps = read(ROOT / ".github" / "workflows" / f"{name}.yml")["jobs"]["build"]["steps"]
        assert steps[-1]["with"]["path"] == folder
        assert folder in MAKEFILE
    announced = (ROOT / ".ci" / "announce").read_text()
    for file in re.findall(r"_build/release/\S+", announced):
        assert Path(file).name.removesuffix(".zip") in MAKEFILE


def test_a_release_is_announced_with_its_notes_and_its_book(tmp_path: Path) -> None:
    project, programs = tmp_path / "project", tmp_path / "bin"
    for folder in (project / ".ci", project / "_build" / "release", programs):
        folder.mkdir(parents=True)
    script = project / ".ci" / "announce"
    script.write_text((ROOT / ".ci" / "announce").read_text())
    script.chmod(0o755)
    told = programs / "gh"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > told\n')
    told.chmod(0o755)
    around = {"PATH": f"{programs}:{os.environ['PATH']}"}
    without = subprocess.run([script], env={**around, "GITHUB_REF_NAME": "v1"}, capture_output=True, check=False)
    assert without.returncode != 0  # there are no notes
    assert not (project / "told").exists()
    (project / "_build" / "release" / "notes.md").write_text("# New\n")
    nameless = subprocess.run([script], env=around, capture_output=True, text=True, check=False)
    assert "need the name of the tag" in nameless.stderr
    subprocess.run([script], env={**around, "GITHUB_REF_NAME": "v1.2"}, check=True)
    arguments = (project / "told").read_text().split("\n")
    assert arguments[:4] == ["release", "create", "v1.2", "--verify-tag"]
    assert arguments[-3:-1] == ["_build/release/notes.md", "_build/release/book.zip"]


# ---- without CUDA


def test_without_cuda_only_what_is_torchs_is_left_out() -> None:
    """The line of the Makefile, run on the lock, against what installed torch and FAISS say that they need."""
    recipe = re.search(r"^\t@(sed .*) requirements\.lock > ", MAKEFILE, re.MULTILINE)
    assert recipe
    command = f"{recipe[1]} requirements.lock".replace("$$", "$")
    kept = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = [{re.split(r"[=\s]", line)[0] for line in text if line[:1] != "#"} for text in (lines, kept.splitlines())]
    left_out = names[0] - names[1]
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in left_out)
    assert {name for name in names[1] if name.startswith(("nvidia-", "cuda-", "triton"))} == {
        name for name in names[0] if name.startswith("nvidia-") and name.endswith("-cu12")
    }
    try:
        of_torch, of_faiss = (
            {Requirement(line).name for line in requires(package) or []} for package in ("torch", "faiss-gpu")
        )
    except PackageNotFoundError:
        pytest.skip("this machine's FAISS is not the one for Linux on x86_64")
    assert not of_faiss & left_out
    accelerated = {name for name in of_torch if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert accelerated
    assert accelerated & names[0] <= left_out


# ---- the image and the container


def test_the_image_rests_on_a_tag_and_runs_as_nobody_special() -> None:
    (base,) = re.findall(r"^FROM (\S+)", IMAGE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim-\w+", base)
    lines = [line for line in IMAGE.splitlines() if re.match(r"[A-Z]+ ", line)]
    users = [index for index, line in enumerate(lines) if line.startswith("USER ")]
    assert len(users) == 1
    assert lines[users[0]] != "USER root"
    assert all(not line.startswith(("RUN", "COPY")) or "apt-get" in line for line in lines[: users[0]])
    assert not [line for line in lines if line.startswith(("ADD ", "EXPOSE ", "MAINTAINER "))]
    for install in re.findall(r"apt-get install[^\n]*", IMAGE):
        assert {"--yes", "--no-install-recommends"} <= set(install.split())
    assert "rm -rf /var/lib/apt/lists/*" in IMAGE
    assert "ARG TORCH_BACKEND=cpu" in IMAGE


def test_the_image_copies_what_is_there_and_runs_what_runs_here() -> None:
    for line in re.findall(r"^COPY (.*)$", IMAGE, re.MULTILINE):
        *sources, target = [word for word in line.split() if not word.startswith("--")]
        assert target.endswith(("/", "."))
        assert [name for name in sources if not (ROOT / name).exists()] == []
        assert "--chown=reader" in line
    commands = [c for c in re.findall(r"^RUN (.*)$", IMAGE, re.MULTILINE) if not c.startswith("apt-get")]
    assert commands == ["make install", "make published"]
    for command in [*commands, shlex.join(json.loads(re.findall(r"^CMD (.*)$", IMAGE, re.MULTILINE)[0]))]:
        check_command(command)
    # whatever the environment is made from is there before it is made
    before = IMAGE[: IMAGE.index("RUN make install")]
    needed = re.search(r"^\$\(STAMP\): (.*)$", MAKEFILE, re.MULTILINE)
    assert needed
    assert [name for name in [*needed[1].split(), "README.md", "LICENSE"] if name not in before] == []


def test_the_container_makes_the_same_environment() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    check_command(container["postCreateCommand"])
    assert container["image"].rpartition(":")[2].startswith("3.11-")
    assert container["containerEnv"] == {"UV_TORCH_BACKEND": "cpu"}
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"
