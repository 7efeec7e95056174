"""Commands to copy, through the shell, make and papermill that read them: what comes out is what was put in."""

import shlex

import pytest
import yaml
from copied_commands import asked_of_make, asked_of_papermill, copy_project, heard

from dclib.report.commands import as_yaml, make_command, papermill_command

TEXTS = (
    *(
        "photos",
        "my photos",
        "it's",
        "a$b",
        "$HOME",
        "$(id)",
        "`id`",
        'a "b"',
        "a#b",
        "a\\",
        "\\$b",
        "a;b&c|d",
        "*",
        "!x",
    ),
    *(
        "é😀",
        "~/x",
        "a=b",
        "-x",
        "2019",
        "1_0",
        "nan",
        "True",
        "None",
        "1e5",
        ".5",
        " lead",
        "trail ",
        "a\tb",
        "%s",
        "x:=y",
    ),
    *("a\u2028b", "a\u0085b", "{a: b}", "- a", "a: b", "'", '"', "\x7f"),
)
NUMBERS = (0, 7, -1, 0.5, 1e-5, -2e-07, 1e16, 1.5e300, 0.1 + 0.2)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("project"))


def test_a_line_of_yaml_is_the_value():
    values = [*TEXTS, *NUMBERS, True, None, [], {}, [1, 2.5e-7, "a"], {"train.lr": 1e-5, "b": {"c": [True]}}]
    for value in values:
        read = yaml.safe_load(as_yaml(value))
        assert (read, type(read)) == (value, type(value))
        assert "\n" not in as_yaml(value)


def test_papermill_hears_what_was_meant(copied, monkeypatch):
    given = [{"preset": text, "settings": {"data.pool": text, "train.lr": 1e-5, "seeds": [0, 1]}} for text in TEXTS]
    given += [{"minutes": number, "settings": {}} for number in NUMBERS] + [{"processes": 2, "flag": True}]
    commands = [papermill_command("01_data.ipynb", one, program=".venv/bin/papermill") for one in given]
    for one, words in zip(given, heard(copied, commands), strict=True):
        assert asked_of_papermill(words, monkeypatch) == {k: v for k, v in one.items() if v != {}}


def test_make_hears_what_was_meant(copied):
    given = [(text, text, {"data.pool": text, "train.lr": 1e-5, "seeds": [0, 1]}) for text in TEXTS]
    given += [("pocket", "", {"seeds": [0, 2]}), ("pocket", "", {})]
    for one, words in zip(given, heard(copied, [make_command(*one) for one in given]), strict=True):
        assert asked_of_make(words) == one
    assert make_command("pocket", "", {"seeds": [0, 1, 2]}) == "make book \\\n    SEEDS=3"


def test_only_what_differs_from_the_notebook_is_said():
    defaults = {"preset": "smoke", "data": "", "settings": {}, "processes": 1}
    same = papermill_command("n.ipynb", {"preset": "smoke", "settings": {}}, defaults=defaults)
    assert shlex.split(same) == ["papermill", "notebooks/n.ipynb", "n-mine.ipynb", "-k", "python3"]
    given = {"preset": "pocket", "data": "", "processes": 2}
    words = shlex.split(papermill_command("n.ipynb", given, defaults=defaults).replace("\\\n", " "))
    assert words[5:] == ["-p", "preset", "pocket", "-y", '{"processes": 2}']
