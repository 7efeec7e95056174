"""What a built site does not need taken out of it: the theme's 1.5 MB of icons are 2,000, and its pages show twenty.

The icons that are shown stay, as letters of a font inside the style sheet: a page opened as a file may be refused
another file's font, and a script that draws icons has to run before they are seen.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from dclib.press.access import accessible

STYLE = "_static/styles/pydata-sphinx-theme.css"
FONTS = "_static/vendor/fontawesome"
ICON_SCRIPT = re.compile(r'[ \t]*<script src="[^"]*/scripts/fontawesome\.js[^"]*"></script>\n?')
ICON = re.compile(r'<i class="(?=[^"]*\bfa[srb]?[ -])')  # as the theme writes it
ICON_NAME = re.compile(r"\bfa-([a-z0-9-]+)")
NAMED = re.compile(
    r'(?:^|(?<=[{};]))([^{};]*)\{(?:--fa:|content:)"([^"]+)"[^{}]*\}'
)  # a rule that says which letter an icon is
FACE = re.compile(r"src:url\(\.\./vendor/fontawesome/webfonts/([\w-]+)\.woff2\)[^;}]*")
SOURCE_MAP = re.compile(r"\n?(?:/\*# sourceMappingURL=[^*]*\*/|//# sourceMappingURL=\S+)\s*$")
DROPPED = ("_static/scripts/fontawesome.js*", "_static/**/*.map", "_static/*webpack-macros.html")
FOLDERS = (FONTS, "_static/locales")  # and what the theme says in other languages, for its translators


def lighten(site: Path) -> None:
    """Take out what no page of a built site loads, and of its icons those that no page shows.

    The site must not be in its place yet: files are changed one by one.

    Raises:
        ValueError: the theme is not as it was when this was written.
    """
    style = site / STYLE
    if not style.is_file():
        return  # built without the theme
    css = style.read_text(encoding="utf-8")
    if not FACE.search(css):
        if "data:font/woff" in css:
            return  # it is light already
        raise ValueError(f"need the theme's icons in {STYLE} to keep the few that are shown; see dclib/press/light.py")
    pages, scripts = sorted(site.rglob("*.html")), sorted((site / "_static").rglob("*.js"))
    shown = [path.read_text(encoding="utf-8") for path in (*pages, *scripts) if path.name != "fontawesome.js"]
    letters = icon_letters(css, shown)
    own = "".join(path.read_text(encoding="utf-8") for path in style.parent.glob("*.css") if path != style)
    letters |= {chr(int(code, 16)) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", own)}
    css = NAMED.sub(lambda rule: "" if _is_unseen(rule, letters) else rule[0], css)
    css = FACE.sub(lambda face: f'src:url({_as_data(site, face[1], letters)}) format("woff")', css)
    style.write_text(css, encoding="utf-8")
    for path in pages:
        text = path.read_text(encoding="utf-8")
        text = ICON.sub(r'<i aria-hidden="true" class="', ICON_SCRIPT.sub("", text))
        path.write_text(accessible(text), encoding="utf-8")
    for pattern in DROPPED:
        for path in site.glob(pattern):
            path.unlink()
    for folder in FOLDERS:
        shutil.rmtree(site / folder, ignore_errors=True)
    for path in [*site.glob("_static/**/*.css"), *site.glob("_static/**/*.js")]:
        text = path.read_text(encoding="utf-8")
        if (plain := SOURCE_MAP.sub("\n", text)) != text:
            path.write_text(plain, encoding="utf-8")


def icon_letters(css: str, shown: Iterable[str]) -> set[str]:
    """The letters of the icons' fonts that are shown: of icons that ``shown`` names, and what other rules put first.

    Args:
        css: The theme's style, in which each icon has a rule with its letter.
        shown: Pages and scripts.
    """
    names = {name for text in shown for name in ICON_NAME.findall(text)}
    letters = set()
    for selectors, said in NAMED.findall(css):
        own = set(ICON_NAME.findall(selectors))
        if not own or own & names:
            letters |= _unescaped(said)
    for said in re.findall(r'--pst-icon-[\w-]+:"([^"]+)"', css):
        letters |= _unescaped(said)
    return letters


def _is_unseen(rule: re.Match[str], letters: set[str]) -> bool:
    """Whether a rule is that of an icon which no page shows."""
    return bool(ICON_NAME.search(rule[1])) and not _unescaped(rule[2]) & letters


def _unescaped(said: str) -> set[str]:
    """Letters of a CSS string that are icons: those for private use, and few others."""
    return set(re.sub(r"\\([0-9a-fA-F]{1,6}) ?", lambda code: chr(int(code[1], 16)), said))


def _as_data(site: Path, name: str, letters: set[str]) -> str:
    """Some letters of one of the icons' fonts, as an address that holds the font itself."""
    font = TTFont(site / FONTS / "webfonts" / f"{name}.ttf")
    options = Options()
    options.layout_features, options.hinting = [], False
    part = Subsetter(options)
    part.populate(unicodes=[ord(letter) for letter in letters])
    part.subset(font)
    font.flavor = "woff"
    file = io.BytesIO()
    font.save(file)
    return f"data:font/woff;base64,{base64.b64encode(file.getvalue()).decode()}"
