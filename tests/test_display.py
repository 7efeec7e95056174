"""Pieces of a page: pictures with words, captions escaped, commands that can be pasted."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex

import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from dclib.report import display, figures, pictures


def make_figure() -> display.Fragment:
    ax = figures.new_axes(2, 1)
    ax.plot([0, 1], [0, 1])
    return display.show(ax, alt='a "line" & <more>', caption="Look at <b>this</b>", name="my-figure")


def test_a_figure_carries_its_words_and_twice_its_pixels() -> None:
    soup = BeautifulSoup(make_figure()._repr_html_(), "html.parser")
    image = soup.select_one("figure#my-figure img")
    assert image["alt"] == 'a "line" & <more>'
    assert soup.figcaption.text == "Look at <b>this</b>"
    assert "max-width:min(100%" in image["style"]
    png = Image.open(io.BytesIO(base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))))
    assert png.width == 2 * int(image["width"])
    assert png.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_the_same_figure_is_the_same_bytes() -> None:
    assert make_figure() == make_figure()


def test_pictures_are_stored_as_jpeg_with_the_same_size() -> None:
    drawn = pictures.draw_sobel(Image.effect_noise((64, 64), 80))
    jpeg, png = (display.show(drawn, alt="a", caption="c", pictures=pictures) for pictures in (True, False))
    assert 'src="data:image/jpeg;base64,' in jpeg.html
    assert len(jpeg.html) < len(png.html)
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(re.split('[,"]', f.html.split("base64")[1])[1]))).size
        for f in (jpeg, png)
    ]
    assert sizes[0] == sizes[1]


def test_text_alone_tells_what_the_figure_shows() -> None:
    assert repr(make_figure()) == "Look at <b>this</b>".join(("[Figure] ", '\n\na "line" & <more>'))


@pytest.mark.parametrize(("alt", "caption"), [("", "c"), ("a", " ")])
def test_a_figure_without_words_is_refused(alt: str, caption: str) -> None:
    with pytest.raises(ValueError, match="needs alternative text and a caption"):
        display.show(figures.new_axes(), alt=alt, caption=caption)


def test_figures_side_by_side_have_words_each() -> None:
    drawings = [(figures.new_axes(2, 1), "left"), (figures.new_axes(2, 1), "right")]
    soup = BeautifulSoup(display.show_side_by_side(drawings, caption="both").html, "html.parser")
    assert [image["alt"] for image in soup.select("figure img")] == ["left", "right"]
    assert len(soup.select("figcaption")) == 1
    with pytest.raises(ValueError, match="needs alternative text"):
        display.show_side_by_side([*drawings, (figures.new_axes(2, 1), "")], caption="three")


def test_said_words_are_escaped() -> None:
    assert display.say("1 < 2 & so").html == "<p>1 &lt; 2 &amp; so</p>"


def test_photographs_have_titles_as_words() -> None:
    picture = Image.new("RGB", (400, 300), "red")
    shown = display.show_photographs(
        [(picture, "A <red> wall", ["by me", "#red"])], kind="Photograph", caption="Photographs"
    )
    image = BeautifulSoup(shown.html, "html.parser").img
    assert image["alt"] == "Photograph: A <red> wall"
    small = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
    assert max(small.size) <= 260
    assert picture.size == (400, 300)  # the caller's picture is left alone
    assert "#red" in shown.text


def words_of(shown: display.Fragment) -> list[str]:
    """The command as a shell takes it apart."""
    command = re.search(r"```bash\n(.*)\n```", shown.text, re.DOTALL)
    assert command
    return shlex.split(command[1].replace("\\\n", " "))


def test_the_command_says_the_parameters_back() -> None:
    parameters = {"preset": "pocket", "data": "", "settings": {"train.epochs": 2, "seeds": [0, 1]}, "method": "rotnet"}
    words = words_of(display.rerun_command("02_pretraining.ipynb", parameters, took=""))
    assert words[:5] == ["papermill", "notebooks/02_pretraining.ipynb", "02_pretraining-mine.ipynb", "-k", "python3"]
    given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    for i, word in enumerate(words):
        if word == "-y":
            given |= yaml.safe_load(words[i + 1])
    assert given == {key: value for key, value in parameters.items() if value}


def test_a_value_with_a_quote_survives_the_shell() -> None:
    words = words_of(display.rerun_command("n.ipynb", {"data": "it's a $HOME"}, took=""))
    assert json.loads(words[words.index("-y") + 1]) == {"data": "it's a $HOME"}


def test_fragments_add_up() -> None:
    both = display.say("one") + display.say("two")
    assert both.html == "<p>one</p>\n<p>two</p>"
    assert repr(both) == "one\n\ntwo"


def test_an_image_takes_half_of_the_line_only_if_it_was_drawn_for_it() -> None:
    drawings = [(figures.new_axes(width, 1), "words") for width in (4.0, 6.0)]
    half, whole = BeautifulSoup(display.show_side_by_side(drawings, caption="both").html, "html.parser").find_all("img")
    assert "50%" in half["style"]
    assert "50%" not in whole["style"]
