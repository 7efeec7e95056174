"""What can be set when a page is run again: the typed parameters of its notebook, and the keys of its preset.

Names, types, values and the comments that explain them are read from the code that has them. No torch here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import itertools
import tokenize
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from dclib.config import Preset
from dclib.methods import OUTLINES
from dclib.presets import SECTIONS, STAGES, preset_folder
from dclib.press.titles import default_parameters
from dclib.report.commands import as_yaml

KINDS = {bool: "bool", int: "int", float: "float", str: "text"}
NOT_SET = ("data.root",)  # what a parameter of the notebooks is for
PRESET, METHOD, SETTINGS = "preset", "method", "settings"  # parameters that every notebook, or some, have


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One thing that can be set."""

    name: str
    kind: str  # bool, int, float or text; ints, floats or texts for several with commas between; dict for settings
    hint: str = ""
    value: Any = None  # what it has if nothing is said; None where that differs between the networks of a preset
    choices: Sequence[Any] = ()
    free: bool = False  # another value than the choices will do as well

    def plain(self) -> dict[str, Any]:
        """As JSON: the value as it stands in an input, which for a box to tick is whether it is ticked."""
        given: dict[str, Any] = {"name": self.name, "kind": self.kind, "hint": self.hint, "value": self.written()}
        given |= {"choices": [_written(one) for one in self.choices]} if self.choices else {}
        return {**given, "free": True} if self.free else given

    def written(self, value: Any = None) -> Any:
        """``value``, or that of the field, as it stands in an input."""
        value = self.value if value is None else value
        return value if self.kind in ("bool", "dict") else _written(value)


def _written(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return ", ".join(map(str, map(_written, value))) if isinstance(value, list | tuple) else as_yaml(value)


def notebook_fields(notebook: Any, preset: Preset) -> list[Field]:
    """The typed parameters of a notebook with its own defaults, in order; presets and methods are there to choose from.

    Those of a type that no input is for are left out.
    """
    source = next((c["source"] for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ())), "")
    source = "".join(source)
    values, comments = default_parameters(notebook), comments_of(source)
    choices = {PRESET: sorted(path.stem for path in preset_folder().glob("*.yaml")), METHOD: list(preset.methods)}
    fields = []
    for name, node in _assigned(ast.parse(source).body).items():
        kind = _kind_of(ast.unparse(node.annotation))
        hint = comments.get(node.lineno, "")
        if not kind or name not in values:
            continue
        chosen = choices.get(name, ())
        fields.append(Field(name=name, kind=kind, hint=hint, value=values[name], choices=chosen, free=name == PRESET))
    return fields


def _kind_of(annotation: str) -> str:
    kinds = {"str": "text", "int": "int", "float": "float", "bool": "bool", "dict": "dict", "list": "texts"}
    whole = {f"list[{name}]": f"{kind}s" for name, kind in (("int", "int"), ("float", "float"), ("str", "text"))}
    return {**kinds, **whole}.get(annotation, kinds.get(annotation.split("[")[0], ""))


def measures(notebook: Any) -> bool:
    """Whether a page trains or measures: what takes long is called in cells whose output is hidden."""
    return any("hide-output" in cell["metadata"].get("tags", ()) for cell in notebook["cells"])


def preset_fields(preset: Preset, method: str = "") -> list[Field]:
    """The settings of a preset by their dotted names, with its values; of one of its methods those that it has.

    What the networks of a preset share has no value where they differ, unless ``method`` says which is meant.
    """
    configs = [preset.method(method)] if method else list(preset.methods.values())
    fields = []
    for section, cls in {**SECTIONS, **STAGES}.items():
        of = configs if section in SECTIONS else [preset]
        fields += _fields_of(cls, f"{section}.", [getattr(one, section) for one in of])
    if method:
        settings = OUTLINES[configs[0].method].settings
        fields += _fields_of(settings, f"methods.{method}.task.", [configs[0].task])
    return [field for field in fields if field.name not in NOT_SET]


def _fields_of(cls: type[Any], before: str, configs: Sequence[Any]) -> list[Field]:
    """The fields of a dataclass, with the values that all the ``configs`` have alike."""
    hints, comments = typing.get_type_hints(cls), _comments(cls)  # type: ignore[arg-type]
    found = []
    for name in (field.name for field in dataclasses.fields(cls)):
        hint, values = hints[name], [getattr(config, name) for config in configs]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        several = typing.get_origin(hint) is tuple
        kind = KINDS.get(type(choices[0]) if choices else typing.get_args(hint)[0] if several else hint, "")
        value = values[0] if all(one == values[0] for one in values) else None
        if kind:
            comment = comments.get(name, "")
            kind = f"{kind}s" if several else kind
            found.append(Field(name=f"{before}{name}", kind=kind, hint=comment, value=value, choices=choices))
    return found


@cache
def _comments(cls: type[Any]) -> dict[str, str]:
    source = inspect.getsource(cls)
    comments = comments_of(source)
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    return {name: comments.get(node.end_lineno or 0, "") for name, node in _assigned(tree.body).items()}


def _assigned(body: Sequence[ast.stmt]) -> dict[str, ast.AnnAssign]:
    return {n.target.id: n for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


def comments_of(source: str) -> Mapping[int, str]:
    """Line -> the comment behind its code, without the sign; where there is none, those in the lines after it."""
    behind, alone = dict[int, str](), dict[int, str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            place = behind if token.line[: token.start[1]].strip() else alone
            place[token.start[0]] = token.string.lstrip("#").strip()
    for line in [line - 1 for line in alone if line - 1 not in alone and line - 1 not in behind]:
        behind[line] = " ".join(
            alone[after] for after in itertools.takewhile(alone.__contains__, itertools.count(line + 1))
        )
    return behind
