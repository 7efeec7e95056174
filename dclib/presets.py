"""Presets: files of settings under one name, read from YAML, and the places of a project.

A preset is a file of overrides. Every key is checked against the dataclasses of ``config``, with its type, before
anything runs; a key nobody knows is an error that names its neighbours.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from reprlib import repr as shown  # a value from a file may be as long as it likes
from typing import Any, Literal, ParamSpec, TypeVar

import yaml

from dclib.config import (
    RECIPES,
    AnalysisConfig,
    ChoiceConfig,
    ClusterConfig,
    CountsConfig,
    DataConfig,
    FinetuneConfig,
    LowShotConfig,
    MethodConfig,
    ModelConfig,
    Preset,
    ProbeConfig,
    RetrievalConfig,
    TrainConfig,
    VocConfig,
)
from dclib.counted import counted
from dclib.methods import OUTLINES
from dclib.reading import read_text

T = TypeVar("T")
P = ParamSpec("P")

SECTIONS: Mapping[str, type[Any]] = {"model": ModelConfig, "cluster": ClusterConfig, "train": TrainConfig}
STAGES: Mapping[str, type[Any]] = {
    "data": DataConfig,
    "probe": ProbeConfig,
    "finetune": FinetuneConfig,
    "voc": VocConfig,
    "retrieval": RetrievalConfig,
    "analysis": AnalysisConfig,
    "choice": ChoiceConfig,
    "low_shot": LowShotConfig,
    "counts": CountsConfig,
}
PLAIN = ("init", "images", "pool_images", "weights", "allow_partial")  # settings of a method itself
METHOD_NAME = re.compile(r"\w[\w.-]{0,99}")  # it becomes the name of files, and a heading
RELEASED_RESIZE = 256  # short side for networks of 224 pixels


def project_root() -> Path:
    """The folder that holds notebooks/ and book/: DCLIB_ROOT, else above this file, else the current one."""
    if "DCLIB_ROOT" in os.environ:
        return Path(os.environ["DCLIB_ROOT"])
    for folder in (Path(__file__).resolve().parent.parent, *[Path.cwd(), *Path.cwd().parents]):
        if (folder / "notebooks" / "presets").is_dir():
            return folder
    return Path.cwd()


def data_root(data: DataConfig) -> Path:
    """The folder of a preset's images: ``data.root`` from here, or, if it is not there, from the project."""
    here = Path(data.root)
    return here if here.exists() or here.is_absolute() else project_root() / here


def runs_folder() -> Path:
    """Where runs are kept: DCLIB_RUNS, else runs/ in the project."""
    return Path(os.environ.get("DCLIB_RUNS", project_root() / "runs"))


def edition() -> Path | None:
    """The folder of published results that pages are made from: DCLIB_EDITION; None where they show runs made here."""
    named = os.environ.get("DCLIB_EDITION", "")
    return project_root() / named if named else None


def shown_folder(preset: str) -> Path:
    """The folder whose records and pictures the pages of a preset show: the edition's, else that of its runs."""
    return edition() or runs_folder() / preset


def measuring(function: Callable[P, T]) -> Callable[P, T | None]:
    """Mark what measures and writes records: where published results are shown it returns at once, for they are all."""

    @wraps(function)
    def unless_published(*arguments: P.args, **options: P.kwargs) -> T | None:
        return function(*arguments, **options) if edition() is None else None

    return unless_published


def load_preset(name: str | Path, overrides: Mapping[str, Any] | None = None, *, weights: str = "") -> Preset:
    """Read a preset by name or path, with dotted overrides such as ``{"train.lr": 0.1}``.

    The sections ``model``, ``cluster`` and ``train`` hold for every method; a method's own sections come on
    top, and ``recipe`` starts it from a recipe of the supplement. Overrides win over the file; one that names
    a shared section (``train.lr``) also wins over a method's own value.

    Args:
        weights: File of published weights. The preset then has one method, ``released``, which is that file: a
            network of 224 pixels, for which images are kept at 256 unless the overrides say otherwise.

    Raises:
        ValueError: no such preset, an unknown key, a value of the wrong type or out of its range.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else preset_folder() / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in preset_folder().glob("*.yaml"))
        raise ValueError(
            f"unknown preset {str(name)!r}; there are {', '.join(known)}, or give the path of a .yaml file"
        )
    try:
        raw = yaml.safe_load(read_text(path)) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a mapping of settings; got {shown(raw)}")
    if weights:
        raw |= {"methods": {"released": {"weights": weights}}, "model": {}, "choice": {}, "counts": {}}
        _override(raw, "data.resize", RELEASED_RESIZE)
    for key, value in (overrides or {}).items():
        _override(raw, key, value)
    try:
        return parse_preset(path.stem, raw)
    except ValueError as error:
        if path == Path(name):  # one's own file: the name of a preset would not say where it is
            raise ValueError(f"{error} ({path})") from None
        raise


def preset_folder() -> Path:
    """The folder of the presets that come with the project."""
    return project_root() / "notebooks" / "presets"


def parse_preset(name: str, raw: Mapping[str, Any]) -> Preset:
    """Build a preset from its parsed YAML; see :func:`load_preset`."""
    known = ["description", "seeds", *STAGES, *SECTIONS, "methods"]
    _check_keys(raw, known, f"preset {name!r}")
    shared = {section: raw.get(section) or {} for section in SECTIONS}
    for section, cls in SECTIONS.items():
        build(cls, shared[section], section)  # so that a fault in it is reported where it stands
    entries = raw.get("methods") or {}
    if not isinstance(entries, Mapping):
        raise ValueError(f"methods must be a mapping, one key per method ('rotnet:'); got {shown(entries)}")
    methods: dict[str, MethodConfig] = {}
    for method, own in entries.items():
        methods[method] = _parse_method(method, own or {}, shared)
    if not methods:
        raise ValueError(f"preset {name!r} needs at least one entry under 'methods'; got none")
    _check_inits(methods)
    seeds = raw.get("seeds", [0])
    if not (isinstance(seeds, list) and seeds and all(type(s) is int and s >= 0 for s in seeds)):
        raise ValueError(f"seeds must be a list of integers >= 0; got {shown(seeds)}")
    stages: dict[str, Any] = {section: build(cls, raw.get(section) or {}, section) for section, cls in STAGES.items()}
    if stages["choice"].method not in ("", *methods):
        raise ValueError(f"choice.method must be one of {', '.join(methods)}; got {stages['choice'].method!r}")
    preset = Preset(
        name=name,
        description=str(raw.get("description", "")),
        seeds=tuple(seeds),
        methods=methods,
        **stages,
    )
    counted(preset)  # so that a count that cannot be is found out here
    return preset


def build(cls: type[T], values: Mapping[str, Any], where: str, base: T | None = None) -> T:
    """Make a config of type ``cls``, checking every key and type; ``base`` gives the other values."""
    hints = typing.get_type_hints(cls)
    _check_keys(values, list(hints), where)
    checked = {key: _checked(value, hints[key], f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**checked) if base is None else dataclasses.replace(base, **checked)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _check_inits(methods: Mapping[str, MethodConfig]) -> None:
    for method in methods:
        chain = [method]
        while start := methods[chain[-1]].init:
            if start not in methods:
                raise ValueError(f"methods.{chain[-1]}.init must name another method of the preset; got {start!r}")
            if start in chain:
                path = " <- ".join([*chain, start])
                raise ValueError(f"methods.{method}.init must not lead back to itself; got {path}")
            chain.append(start)


def _parse_method(name: str, own: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> MethodConfig:
    where = f"methods.{name}"
    if METHOD_NAME.fullmatch(str(name)) is None:
        raise ValueError(f"a method's name becomes a file's: need letters, digits, '_', '.' and '-'; got {shown(name)}")
    _check_keys(own, ["method", "recipe", "task", *PLAIN, *SECTIONS], where)
    recipe = own.get("recipe", "")
    if recipe and recipe not in RECIPES:
        raise ValueError(f"{where}.recipe must be one of {', '.join(RECIPES)}; got {shown(recipe)}")
    base = RECIPES[recipe] if recipe else MethodConfig()
    task = own.get("method", base.method if recipe else name)
    if not isinstance(task, str) or task not in OUTLINES:
        raise ValueError(f"{where}: unknown method {shown(task)}; use one of {', '.join(OUTLINES)}")
    own_settings: Any = build(OUTLINES[task].settings, own.get("task") or {}, f"{where}.task")
    sections = {}
    for section, cls in SECTIONS.items():
        values = own.get(section) or {}
        _check_keys(values, [f.name for f in dataclasses.fields(cls)], f"{where}.{section}")
        sections[section] = build(cls, {**shared[section], **values}, f"{where}.{section}", getattr(base, section))
    try:
        plain = {key: own[key] for key in PLAIN if own.get(key)}
        return build(
            MethodConfig, {"method": task, "task": own_settings, **plain}, where, dataclasses.replace(base, **sections)
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    level = raw
    for parent in parents:
        if level.get(parent) is None:
            level[parent] = {}
        level = level[parent]
        if not isinstance(level, dict):
            raise ValueError(f"override {dotted!r}: {parent!r} is not a section")
    level[leaf] = value
    if len(parents) == 1 and parents[0] in ("model", "cluster", "train"):
        for own in (raw.get("methods") or {}).values():
            ((own or {}).get(parents[0]) or {}).pop(leaf, None)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it fits the annotation, integers widened to float where a float is meant."""
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"{where} must be one of {', '.join(map(str, typing.get_args(hint)))}; got {shown(value)}")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list; got {shown(value)}")
        return tuple(_checked(item, typing.get_args(hint)[0], where) for item in value)
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias) and type(value) is not hint:
        advice = " (YAML reads 1e-3 as text: write 1.0e-3)" if hint is float and isinstance(value, str) else ""
        raise ValueError(f"{where} must be {hint.__name__}; got {shown(value)}{advice}")
    return value


def _check_keys(values: Mapping[str, Any], known: list[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping of settings; got {shown(values)}")
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {where}; {hint}")
