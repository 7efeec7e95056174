"""Formulas as drawings, for paper: the printer knows no MathML, so MathJax sets them, in a Chromium.

No request leaves: the script is in the project, and no page of the book has it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dclib.presets import project_root

SCRIPT = Path("book", "_print", "mathjax", "tex-svg.js")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
BUDGET = 600_000  # milliseconds of the page's own clock, which does not wait
SECONDS = 120  # of ours
PAGE = """<!DOCTYPE html><meta charset="utf-8"><body><script>
window.MathJax = {{startup: {{typeset: false}}, svg: {{fontCache: "none"}}, options: {{enableAssistiveMml: false}}}};
</script><script src="{script}"></script><script>
const FORMULAS = {formulas};
(async () => {{
  await MathJax.startup.promise;
  for (const [tex, display] of FORMULAS)
    document.body.append((await MathJax.tex2svgPromise(tex, {{display, em: 16, ex: 8}})).querySelector("svg"), "\\n");
  document.body.append("all are set");
}})();
</script></body>
"""
EX = 0.47  # of the letters' size: what MathJax takes a small letter's height to be, between its font's and the book's


def find_browser() -> str:
    """The Chromium or Chrome on the PATH.

    Raises:
        ValueError: there is none.
    """
    found = next((program for name in BROWSERS if (program := shutil.which(name))), None)
    if found is None:
        raise ValueError(
            f"need a browser to set the book's formulas; none of {', '.join(BROWSERS)} is on the PATH: "
            "on Debian, apt install chromium"
        )
    return found


def draw_formulas(formulas: Sequence[tuple[str, bool]]) -> Mapping[tuple[str, bool], str]:
    """An SVG for each formula, its lengths in em; drawings of one size of letters fit a text of that size.

    Args:
        formulas: TeX without delimiters, and whether it stands on a line of its own.

    Raises:
        ValueError: there is no browser or no script, or a formula is not TeX.
    """
    wanted = list(dict.fromkeys(formulas))
    if not wanted:
        return {}
    script = project_root() / SCRIPT
    if not script.is_file():
        raise ValueError(f"need the script that sets formulas at {script}; it comes with the project")
    listed = json.dumps(wanted).replace("<", "\\u003c")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "formulas.html"
        page.write_text(PAGE.format(script=script.resolve().as_uri(), formulas=listed), encoding="utf-8")
        options = [f"--user-data-dir={folder}/profile", f"--virtual-time-budget={BUDGET}", "--dump-dom"]
        command = [find_browser(), *FLAGS, *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    drawings = re.findall(r"<svg.*?</svg>(?=\n)", done.stdout, flags=re.DOTALL)
    if "all are set" not in done.stdout or len(drawings) != len(wanted):
        raise ValueError(f"the browser set {len(drawings)} of {len(wanted)} formulas; try again, or another browser")
    for (tex, _), drawing in zip(wanted, drawings, strict=True):
        if wrong := re.search(r'data-mjx-error="([^"]*)"', drawing):
            raise ValueError(f"a formula cannot be set ({wrong[1]}): {tex.strip()}")
    return {formula: _in_em(drawing) for formula, drawing in zip(wanted, drawings, strict=True)}


def _in_em(drawing: str) -> str:
    """Lengths in ex, which depends on a font that no drawing knows, as lengths in em."""
    return re.sub(r"(-?[\d.]+)ex\b", lambda length: f"{float(length[1]) * EX:.4f}em", drawing)
