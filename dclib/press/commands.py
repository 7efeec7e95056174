"""Sub-commands that make something else of the built book; see ``python -m dclib``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from dclib.preemption import tell


def add_commands(commands: Any) -> None:
    """Add the parsers to those of ``python -m dclib``."""
    pdf = commands.add_parser("pdf", help="print the built book: one PDF with cover, contents and numbered pages")
    pdf.set_defaults(command=_pdf)
    pdf.add_argument("--out", default="", help="the file (default: book.pdf beside the folder of the book)")
    myst = commands.add_parser("myst", help="build the content of the built book's pages with mystmd")
    myst.set_defaults(command=_myst)
    myst.add_argument("--out", default="", help="for its sources (default: myst beside the folder of the book)")
    for command in (pdf, myst):
        command.add_argument("--site", default="", help="folder of the book (default: _build/html in the project)")


def _pdf(options: argparse.Namespace) -> int:
    from dclib.press.print import print_book
    from dclib.press.site import book_folder

    site = book_folder(options.site)
    target = Path(options.out) if options.out else site.with_name("book.pdf")
    n_pages = print_book(site, target)
    print(f"the book on paper: {os.path.relpath(target)}, {n_pages} pages")
    return 0


def _myst(options: argparse.Namespace) -> int:
    from dclib.press.mystmd import MystError, build_content, write_project
    from dclib.press.site import book_folder

    site = book_folder(options.site)
    target = Path(options.out) if options.out else site.with_name("myst")
    pages = write_project(site, target)
    try:
        build_content(target)
    except MystError as error:
        tell(error)
        return 1
    print(f"under mystmd: {len(pages)} pages, from {os.path.relpath(target)}")
    return 0
