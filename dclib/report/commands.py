"""Commands that a reader copies, quoted for everything that reads them on the way: YAML, make, a shell.

``book/_static/forms.js`` writes the same ones while a form is filled in; a test runs both.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

MAKES = "pocket"  # the preset that make takes if none is named
BREAK = " \\\n    "  # a command goes on in the next line
# text that papermill takes for nothing but text: it reads 7, True and nan as values
PLAIN_TEXT = re.compile(r"(?!(?:true|false|none|nan|inf|infinity)$)[a-z_/][a-z0-9_./-]*", re.IGNORECASE)
UNSAFE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff]")  # what YAML refuses, or takes for the end of a line
PAPERMILL, MAKE = "papermill", "make book"


def as_yaml(value: Any) -> str:
    """A value on one line of YAML, which is JSON but for small and large numbers.

    YAML reads ``1e-05`` as text, and ``1.0e-05`` as the number.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_yaml(str(key))}: {as_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def papermill_command(
    notebook: str, parameters: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None, program: str = PAPERMILL
) -> str:
    """The command that executes a notebook, with those parameters that are not its defaults, if these are known.

    Args:
        notebook: Name of a file in ``notebooks/``.
        parameters: Empty ones are left out, unless the default is not empty.
    """
    known = defaults or {}
    empty: tuple[Any, ...] = ("", {}, None)
    given = {k: v for k, v in parameters.items() if (v != known[k] if k in known else v not in empty)}
    page = f"{notebook.removesuffix('.ipynb')}-mine.ipynb"
    first = f"{program} notebooks/{notebook} {page} -k python3"
    return BREAK.join([first, *(_papermill_option(key, value) for key, value in given.items())])


def _papermill_option(key: str, value: Any) -> str:
    """Plain text as it is; anything else as one line of YAML."""
    plain = isinstance(value, str) and PLAIN_TEXT.fullmatch(value)
    return f"-p {key} {value}" if plain else f"-y {shlex.quote(as_yaml({key: value}))}"


def make_command(preset: str, data: str = "", settings: Mapping[str, Any] | None = None) -> str:
    """The command that makes the whole book with a preset, a folder of images and settings."""
    rest, words = dict(settings or {}), []
    seeds = rest.get("seeds")
    if seeds and list(seeds) == list(range(len(seeds))):
        words.append(f"SEEDS={len(rest.pop('seeds'))}")
    variables = [f"{name}={_in_quotes(value)}" for name, value in (("PRESET", preset), ("DATA", data)) if value]
    variables = [one for one in variables if one != f"PRESET={MAKES}"]
    options = " ".join(f"--set {shlex.quote(f'{key}={as_yaml(value)}')}" for key, value in rest.items())
    words = [*variables, *words, *([f"ARGS={options}"] if options else [])]
    return BREAK.join([MAKE, *map(_for_make, words)])


def _for_make(word: str) -> str:
    """``NAME=value`` for the command line of make, which expands dollars and drops blanks before the value."""
    return shlex.quote(re.sub(r"=(?=\s)", "=$()", word.replace("$", "$$"), count=1))


def _in_quotes(text: str) -> str:
    """Text that the Makefile puts between double quotes, as it has to be written there."""
    return re.sub(r'([\\"$`])', r"\\\1", text)
