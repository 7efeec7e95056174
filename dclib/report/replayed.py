"""Whether published networks can still be trained to the same numbers, in a sentence. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dclib.methods import OUTLINES
from dclib.records import code_hash, read_records
from dclib.report.provenance import moment

COMMIT_SHOWN = 7  # digits that tell one commit from another
FILE = "replay.json"  # as train.replay writes it, which needs torch


def replay_sentence(results: Path) -> str:
    """With which commit the networks of ``results`` were trained, and whether the code of now gives their first steps.

    It follows from what the last replay left beside the records; nothing runs. Empty where no steps were recorded with
    these records.
    """
    path = results / FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    cards = [record.card for record in read_records(results / "records" / "pretrain") if record.card]
    if not content or not cards:
        return ""
    made, confirmed, networks = content["made"], content["confirmed"], content["networks"]
    trained_by = {name: row.get("trained_by", made["code"]) for name, row in networks.items()}
    trained = [card for card in cards if OUTLINES[card.config["method"]].learns_from != "nothing"]
    if any(trained_by.get(f"{card.method}-s{card.seed}") != card.code_hash for card in trained):
        return ""
    begun = f"Its networks were trained by the code as it is in commit {made['commit'][:COMMIT_SHOWN]}"
    if _is_code_of_now(made):
        return f"{begun}, and it has not changed since."
    steps = len(next(iter(networks.values()))["losses"])
    if _is_code_of_now(confirmed):
        return (
            f"{begun}. That code has changed since; a replay of each network's first {steps} steps gives the same "
            f"numbers with the code of now ({moment(confirmed['created'])}, {confirmed['device']})."
        )
    return (
        f"{begun}. That code has changed since, and whether it still gives the same numbers has not been looked at: "
        f"`python -m dclib replay --preset {cards[0].preset}` looks."
    )


def _is_code_of_now(taken: dict[str, Any]) -> bool:
    """Whether the code that steps were taken with is what it is now; a file of it that is gone is a change."""
    try:
        return bool(code_hash(*taken["rooms"]) == taken["code"])
    except ValueError:
        return False
