"""What the theme's pages lack for readers who do not see them or use no mouse, put in when a book is built.

Colours and marks of the focus are in ``book/_static/access.css``; ``tests/test_browser.py`` says of each page what it
lacks, and axe-core too.
"""

from __future__ import annotations

import re
from html import escape, unescape

TOGGLE = re.compile(
    r'(<a class="(?:current )?reference internal" href="[^"]*">(?P<title>.*?)</a>\s*<details(?: open(?:="\w+")?)?>'
    r"\s*<summary)(?=>)"
)
NAMED_OTHERWISE = re.compile(
    r'(<summary) aria-label="Toggle hidden content"|(<button class="btn search-button-field [^>]*) aria-label="Search"'
)
ENTRY = re.compile(r'(<div class="citation" id="[^"]*") role="doc-biblioentry"')  # a role that its list may not hold
TAG = re.compile(r"<[^>]+>")


def accessible(html: str) -> str:
    """A page of the theme with names for what opens a part of the menu, no others, and a true list."""
    html = TOGGLE.sub(lambda found: f'{found[1]} aria-label="Pages below: {_words(found["title"])}"', html)
    html = ENTRY.sub(r'\1 role="listitem"', html)
    return NAMED_OTHERWISE.sub(lambda found: found[1] or found[2], html)


def _words(html: str) -> str:
    return escape(unescape(TAG.sub("", html)))
