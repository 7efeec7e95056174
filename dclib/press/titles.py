"""A page's title from its parameters: one notebook makes several pages, and each needs a heading of its own.

Convention: a markdown cell tagged ``title`` keeps a heading that reads well in the notebook itself, and a
template in its metadata, ``{"dclib": {"title": "# Pre-training: {method_title}"}}``. Executing a page replaces
the heading by the template, filled in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from dclib.report.series import title_of


def fill_titles(notebook: Any, parameters: Mapping[str, Any]) -> Any:
    """Fill the title of a notebook, in place, and return it.

    Args:
        notebook: An nbformat notebook, before or after execution.
        parameters: What it is executed with; a parameter left out has the notebook's own default.
            Besides them a template may name ``method_title``.

    Raises:
        ValueError: a template names something that is no parameter.
    """
    values = {**default_parameters(notebook), **parameters}
    if "method" in values:
        values["method_title"] = title_of(str(values["method"]))
    for cell in notebook["cells"]:
        template = cell.get("metadata", {}).get("dclib", {}).get("title")
        if cell["cell_type"] == "markdown" and template:
            cell["source"] = _fill(template, values)
    return notebook


def default_parameters(notebook: Any) -> dict[str, Any]:
    """Names and values assigned in the cell tagged ``parameters``; empty when there is none."""
    for cell in notebook["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            assigned = [node for node in ast.parse("".join(cell["source"])).body if isinstance(node, ast.AnnAssign)]
            return {
                n.target.id: ast.literal_eval(n.value) for n in assigned if isinstance(n.target, ast.Name) and n.value
            }
    return {}


def _fill(template: str, values: Mapping[str, Any]) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise ValueError(f"the title {template!r} names {found[1]!r}, no parameter; there are {', '.join(values)}")
        return str(values[found[1]])

    return re.sub(r"\{(\w+)\}", replace, template)
