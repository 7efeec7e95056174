"""Whether records were made under the protocol that was written before them: what is measured, judged, and a failure.

A run card carries the hash of the protocol that its run was made under, and a file beside the records is the protocol:
where it was changed after a run, the two differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from dclib.records import PROTOCOL, Record, protocol_hash
from dclib.report.display import Fragment, say
from dclib.report.series import cards_of, listed, plural


def protocol_words(name: str, records: Sequence[Record]) -> str:
    """Under which protocol records of the edition ``name`` were made; empty where neither they nor a file name one."""
    now, cards = protocol_hash(name), cards_of(records)
    made = [card.protocol for card in cards]
    under = sum(hash_ == now for hash_ in made if hash_)
    others = sorted({hash_ for hash_ in made if hash_ and hash_ != now})
    without = made.count("")
    if not cards or (not now and without == len(made)):
        return ""
    its = f"its hash is {now}" if now else f"no file {PROTOCOL} is there now"
    if under == len(made):
        whole = "The run was" if under == 1 else f"All {under} runs were"
        return f"{whole} made under the protocol that was written before ({its})."
    parts = [f"{under} under the protocol as it is now"] if under else []
    if others:
        parts.append(f"{len(made) - under - without} under another one ({listed(others)})")
    if without:
        parts.append(f"{without} under none")
    return f"Protocol, of {plural(len(made), 'run')}: {', '.join(parts)} ({its})."


def under_protocol(name: str, records: Sequence[Record]) -> Fragment:
    """The sentence about records of the edition ``name``; nothing where there is none to say."""
    said = protocol_words(name, records)
    return say(said) if said else Fragment("", "")
