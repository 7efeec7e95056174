"""A stage notebook run here, without a kernel: its code cells one after the other, as a notebook would."""

from __future__ import annotations

import ast
import contextlib
import io
from pathlib import Path
from typing import Any

from dclib.press.notebooks import read_notebook

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def run_notebook(name: str, **parameters: Any) -> str:
    """Run a notebook with some of its parameters; what its cells print and show, as text."""
    names: dict[str, Any] = {}
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        for cell in read_notebook(NOTEBOOKS / f"{name}.ipynb").cells:
            if cell.cell_type != "code":
                continue
            value = _run(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                assert parameters.keys() <= names.keys()
                names.update(parameters)
            elif value is not None:
                print(value)
    return shown.getvalue()


def _run(source: str, names: dict[str, Any]) -> Any:
    """The value of the last line where it is an expression, which is what a notebook shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
