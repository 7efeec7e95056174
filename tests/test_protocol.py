"""Whether records were made under the protocol that lies beside them, in words."""

import hashlib
from dataclasses import replace

import pytest
from synthetic_records import make_card, make_curve

from dclib import records as module
from dclib.records import PROTOCOL, protocol_hash
from dclib.report.protocol import protocol_words, under_protocol

TEXT = "# What is measured\n"
NOW = hashlib.sha256(TEXT.encode()).hexdigest()[:12]


def made_under(*hashes: str):
    """A run for each hash, of a seed of its own."""
    cards = [make_card("rotnet", seed, protocol=hash_) for seed, hash_ in enumerate(hashes)]
    return [replace(record, card=card) for card in cards for record in make_curve("rotnet", 0, [1.0] * 13)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The protocol of the edition ``tiny``."""
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    path = tmp_path / "tiny" / PROTOCOL
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("hashes", "words"),
    [
        ((), ""),
        ((NOW,), f"The run was made under the protocol that was written before (its hash is {NOW})."),
        ((NOW, NOW), f"All 2 runs were made under the protocol that was written before (its hash is {NOW})."),
        (("", ""), f"Protocol, of 2 runs: 2 under none (its hash is {NOW})."),
        (
            (NOW, "", "old", "old", "older"),
            "Protocol, of 5 runs: 1 under the protocol as it is now, 3 under another one (old and older), 1 under none "
            f"(its hash is {NOW}).",
        ),
    ],
)
def test_each_run_is_counted_by_its_protocol(path, hashes, words):
    assert protocol_hash("tiny") == NOW
    assert protocol_words("tiny", made_under(*hashes)) == words


def test_a_protocol_that_was_changed_or_lost_afterwards_is_told(path):
    records = made_under(NOW, NOW)
    path.write_text(TEXT + "Or so.")
    assert "2 under another one" in protocol_words("tiny", records)
    path.unlink()
    assert protocol_words("tiny", records).endswith(f"2 under another one ({NOW}) (no file {PROTOCOL} is there now).")


def test_where_there_is_no_protocol_nothing_is_said(path):
    assert under_protocol("other", made_under("", "")).html == ""
    assert "2 under none" in under_protocol("tiny", made_under("", "")).text
