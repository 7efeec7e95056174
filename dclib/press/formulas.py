"""Formulas as MathML, made when the book is built: no script typesets them, and a reader without scripts has them too.

A Sphinx extension, named in ``_config.yml``. Docutils turns TeX into MathML; what it does not know and our pages use is
said to it in other words first.
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

RENDERER = "dclib"
OTHER_WORDS = (  # of TeX, in this order: pattern, replacement
    (r"\\begin\{split\}|\\end\{split\}|\\small(?![a-zA-Z])", ""),
    (r"\\(?:begin|end)\{gathered\}", lambda found: found[0].replace("gathered", "aligned")),
    (r"\\[bB]igg?[lrm]?(?![a-zA-Z])", ""),  # brackets beside text of one line are as high as it is
    (r"\\bar ?([a-zA-Z])", r"{\\bar \1{}}"),  # an index belongs to the letter with its bar, not to the bar
    (r"\\(ln|log|exp|sin|cos)\s+(?=[\w\\])", r"\\\1\\, "),
    (r"\\dots(?![a-zA-Z])", r"\\ldots "),
    (r"\\\\\[[\w.]+\]", r"\\\\"),
    (r"°", r"\\text{°}"),
)
OTHER_SIGNS = (  # of MathML: brackets say on which side they stand, for space, and bars are as high as a line
    (r'<mo class="mathopen">‖', '<mo form="prefix" stretchy="false">‖'),
    ("<mo>‖", '<mo form="postfix" stretchy="false">‖'),
    (r"<mo( [^>]*)?>(?=[({\[⌊⌈]</mo>)", r'<mo\1 form="prefix">'),
    (r"<mo( [^>]*)?>(?=[)}\]⌋⌉]</mo>)", r'<mo\1 form="postfix">'),
    ("&ApplyFunction;", "&#8289;"),
    (r'<mtable class="ams-align">', '<mtable class="ams-align" displaystyle="true">'),
)
logger = logging.getLogger(__name__)


def as_mathml(tex: str, *, block: bool = False) -> str:
    """A formula of TeX as a ``<math>`` element.

    Raises:
        ValueError: it has a command that docutils does not know.
    """
    said = tex
    for pattern, other in OTHER_WORDS:
        said = re.sub(pattern, other, said)
    try:
        made = tex2mathml(said.strip(), as_block=block)
    except MathError as error:
        raise ValueError(
            f"need a formula that docutils can turn into MathML, got {' '.join(tex.split())!r} ({error}); write it in "
            "other commands, or add them to OTHER_WORDS in dclib/press/formulas.py"
        ) from None
    made = re.sub(r"\n\s*", "", made)
    for pattern, other in OTHER_SIGNS:
        made = re.sub(pattern, other, made)
    return made.replace("<math", f'<math alttext="{html.escape(tex.strip())}"', 1)  # for those who cannot read MathML


def _written(translator: Any, node: nodes.Node, *, block: bool) -> str:
    try:
        return as_mathml(node.astext(), block=block)
    except ValueError as error:
        logger.warning("%s", error, location=node)
        return str(translator.encode(node.astext()))


def visit_inline(translator: Any, node: nodes.math) -> None:
    """A formula within a line."""
    translator.body.append(translator.starttag(node, "span", "", CLASS="math notranslate"))
    translator.body.append(_written(translator, node, block=False) + "</span>")
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """A formula of its own, with its number if it is referred to."""
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})</span>')
    translator.body.append(_written(translator, node, block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_html_math_renderer(RENDERER, (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
