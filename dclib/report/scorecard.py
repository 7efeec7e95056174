"""Verdicts on the paper's claims, computed from records and from nothing else.

A verdict is a property of margins, one per seed and thing compared (see ``report.evidence``): there is no field to
type it into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import mean
from typing import Literal

from dclib.paper import CLAIMS, Claim
from dclib.presets import edition
from dclib.records import Record
from dclib.report.display import Fragment, fold, say
from dclib.report.evidence import gather
from dclib.report.finder import published_records
from dclib.report.margins import Check, Evidence, precision
from dclib.report.protocol import under_protocol
from dclib.report.provenance import strip
from dclib.report.scale import comparability, small_tables
from dclib.report.series import listed, plural, seeds_of, spread
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

Outcome = Literal["holds", "leans", "does not hold", "not measured"]
OUTCOMES: tuple[Outcome, ...] = ("holds", "leans", "does not hold", "not measured")
MARKS: Mapping[Outcome, str] = {"holds": "✓", "leans": "≈", "does not hold": "✗", "not measured": NO_VALUE}


@dataclass(frozen=True)
class Verdict:
    """A claim with what records say; the outcome follows from them."""

    claim: Claim
    found: Evidence
    published: Evidence  # the paper's own numbers, read by the same code; without margins where it gives none
    scale: str = ""  # whether the run's scale allows a comparison of values with the paper's, in words

    @property
    def outcome(self) -> Outcome:
        """One of four words; see :func:`judge`."""
        found = self.found
        checks = found.measured
        if not checks or found.unmet or any(check.is_undecided for check in checks):
            return "not measured"
        if found.exact and all(check.agreeing for check in checks):
            return "leans" if found.missing else "holds"
        if all(check.is_clear for check in (*checks, *found.premises)) and not found.missing:
            return "holds"
        return "leans" if all(check.leans for check in checks) and not found.exact else "does not hold"

    @property
    def is_refuted(self) -> bool:
        """Whether something that the claim says is the other way round as clearly as it would have to be so."""
        return self.outcome == "does not hold" and any(check.is_against for check in self.found.measured)

    @property
    def reason(self) -> str:
        """Why the outcome is what it is, in a few words."""
        found = self.found
        if self.outcome == "not measured":
            return self._why_not_measured()
        said = []
        if not found.exact:
            said.append(plural(found.n_seeds, "seed"))
            if found.n_seeds == 1:
                said.append("one seed has no spread, so it can at most lean")
        against = [c for c in found.measured if not c.leans]
        unsure = [c for c in (*found.measured, *found.premises) if c.leans and not c.is_clear and found.n_seeds > 1]
        if against:
            said.append(f"against it: {_names(against)}")
        elif unsure and not found.exact:
            said.append(f"within what luck explains, or not in every seed: {_names(unsure)}")
        if found.missing:
            said.append(f"not measured: {_names(found.missing)}")
            said += _reasons(found.missing)
        return "; ".join(said)

    def _why_not_measured(self) -> str:
        found = self.found
        if not found.measured:
            return "; ".join(_reasons(found.missing)) or "no records of it in this preset"
        if found.unmet:
            unfit = _reasons(found.unmet)
            return "; ".join(unfit) or f"what it presupposes is not so here: {', '.join(map(_said, found.unmet))}"
        undecided = next(check for check in found.measured if check.is_undecided)
        if len(undecided.values) < 2:
            return "cannot be decided with one seed, which has no spread"
        off = float(precision(undecided.values))
        return (
            f"cannot be decided at this precision: the mean over seeds is known to {off:.1f} {undecided.unit}, "
            f"and {undecided.most:g} have to be told apart"
        )


def judge(records: Sequence[Record], claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """A verdict for every claim.

    A claim *holds* when every check has a margin above zero in each of several seeds and, on the mean, one above zero
    by more than luck explains: the lower end of Student's one-sided interval of 95 %. It *leans* when every check
    that was measured is above zero on the mean and in most seeds, which is all that a single seed or an incomplete
    measurement can give; else it *does not hold*, ties included. Methods are compared seed by seed. Counts over data,
    which no seed changes, hold or do not. It is *not measured* without records, where a network has not learned the
    task it was trained on, where something that the claim presupposes is not so, and where the spread over seeds is
    too large for any margin to tell.
    """
    found, published, small = gather(records), _papers(), small_tables(records)
    return [Verdict(c, found[c.id], published[c.id], comparability(c, small)) for c in claims]


@cache
def _papers() -> Mapping[str, Evidence]:
    """What the paper's own numbers say about each claim."""
    return gather(published_records())


def scorecard_table(
    verdicts: Sequence[Verdict],
    *,
    caption: str = "The paper's claims, judged from records",
    source: Sequence[Record] = (),
) -> Table:
    """The verdicts as a table for the page: a group per claim, a line per thing that it is about."""
    return Table(
        caption=caption,
        columns=("", "verdict", "margins here", "margins in the paper"),
        groups=tuple(
            Group(f"{v.claim.id}. {v.claim.statement} ({v.claim.where})", tuple(_rows(v)), _rule(v.claim))
            for v in verdicts
        ),
        notes=(
            "✓ holds: every margin is above zero in each seed and, on the mean, by more than luck explains. ≈ leans: "
            "above zero on the mean and in most seeds, or with one seed, or with a part not measured. ✗ does not hold: "
            "not even that, ties included. – not measured: no records, or none that says anything; the reason is "
            "beside it. Margins: mean ± standard deviation over seeds of differences between networks of one seed.",
        ),
        source=source,
    )


def published_scorecard(published: Sequence[Record]) -> Fragment | Table:
    """Verdicts on the paper's claims from the records that come with the project, where they have more seeds."""
    if edition() is not None:
        return say("The verdicts of this page are those of the published seeds.")
    if not published:
        return say("No published records of this preset have more seeds than this run.")
    verdicts = judge(published, [claim for claim in CLAIMS if claim.is_the_papers])
    table = scorecard_table(verdicts, caption=f"Published records, {plural(len(seeds_of(published)), 'seed')}")
    return replace(table, beside=published)


def margins_beside(beside: Mapping[str, Sequence[Record]], claims: Sequence[Claim]) -> Fragment:
    """Of editions of other images: the verdicts counted, the protocol they were made under, and every margin."""
    parts = [Fragment("", "")]
    for name, records in beside.items():
        verdicts = judge(records, claims)
        table = replace(scorecard_table(verdicts, caption=f"The same claims, judged from records of {name}"), notes=())
        shown = Fragment(table._repr_html_(), repr(table)) + strip([], records, folder=name)
        said = f"{name.capitalize()}: {tally(verdicts)}. {how_clearly(verdicts)}".strip()
        parts += [say(said), under_protocol(name, records)]
        parts.append(fold(f"Every margin of the {name}, as a table", shown))
    return sum(parts[1:], start=parts[0])


def tally(verdicts: Sequence[Verdict], whose: str = "") -> str:
    """``of 3 claims 1 holds and 2 do not hold``: verdicts counted, in words."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    plurals = {"holds": "hold", "leans": "lean", "does not hold": "do not hold", "not measured": "are not measured"}
    one = {"not measured": "is not measured"}
    parts = [
        f"{counts[outcome]} {one.get(outcome, outcome) if counts[outcome] == 1 else plurals[outcome]}"
        for outcome in OUTCOMES
        if counts[outcome]
    ]
    return f"of {plural(len(verdicts), 'claim')}{whose} {listed(parts)}"


def how_clearly(verdicts: Sequence[Verdict]) -> str:
    """Which of the claims that do not hold are refuted, in words; empty where all hold or none is measured.

    A protocol may call the others open.
    """
    failed = [verdict for verdict in verdicts if verdict.outcome == "does not hold" and not verdict.found.exact]
    refuted = [verdict.claim.id for verdict in failed if verdict.is_refuted]
    others = [verdict.claim.id for verdict in failed if not verdict.is_refuted]
    said = []
    if refuted:
        said.append(
            "As clearly as a claim has to hold, in each of several seeds and beyond luck, a difference is the other "
            f"way round in {listed(refuted)}."
        )
    if others:
        said.append(f"In {listed(others)} it is so on the mean alone, in some of the seeds, or of a single one.")
    return " ".join(said)


def summarise(verdicts: Sequence[Verdict]) -> str:
    """The verdicts on the paper's claims counted, in a sentence."""
    said = tally([verdict for verdict in verdicts if verdict.claim.is_the_papers], " of the paper")
    return f"{said[:1].upper()}{said[1:]}."


def _rows(verdict: Verdict) -> list[Row]:
    """The verdict with its reason, and under it a line per subject where there are several."""
    found = verdict.found
    subjects = list(dict.fromkeys(check.subject for check in found.checks))
    why = "; ".join(part for part in (verdict.reason, verdict.scale if found.measured else "") if part)
    outcome = Cell(f"{MARKS[verdict.outcome]} {verdict.outcome}", why, words=True)
    presupposed = [
        _row("presupposed", Cell("", words=True), _margins(found.premises), _margins(verdict.published.premises))
    ]
    if len(subjects) == 1:
        rows = [_row(subjects[0], outcome, _margins(found.checks), _published(verdict, subjects[0]))]
    else:
        rows = [_row("", outcome, "", "")]
        for subject in subjects:
            checks = [check for check in found.checks if check.subject == subject]
            rows.append(_row(subject, Cell("", words=True), _margins(checks), _published(verdict, subject)))
    return rows + (presupposed if found.premises else [])


def _row(label: str, outcome: Cell, *texts: str) -> Row:
    return Row(label, (outcome, *(Cell(text, words=True) for text in texts)))


def _published(verdict: Verdict, subject: str) -> str:
    checks = [check for check in verdict.published.checks if check.subject == subject and check.margins]
    return _margins(checks) if checks else verdict.claim.published or "no number"


def _margins(checks: Sequence[Check]) -> str:
    """``conv11 +5.2 ± 1.1, conv12 ... points``."""
    parts = [f"{check.name} {_signed(check)}" for check in checks]
    unit = next((check.unit for check in checks if check.margins), "")
    return f"{'; '.join(parts)} {unit}".strip()


def _signed(check: Check) -> str:
    values, digits = check.values, 1 if check.unit == "points" else 2
    if not values:
        return NO_VALUE
    lead = f"{mean(values):+.{digits}f}".replace("-", "−")
    return f"{lead}{_deviation(values, digits)}{' (not judged)' if check.unfit else ''}"


def _said(check: Check) -> str:
    return f"{check.name} {_signed(check)} {check.unit}"


def _reasons(checks: Sequence[Check]) -> list[str]:
    """Why checks say nothing, each reason once."""
    return list(dict.fromkeys(check.unfit for check in checks if check.unfit))


def _deviation(values: Sequence[float], digits: int) -> str:
    return f" ± {spread(values):.{digits}f}" if len(values) > 1 else ""


def _names(checks: Sequence[Check]) -> str:
    return ", ".join(f"{check.subject} {check.name}" for check in checks)


def _rule(claim: Claim) -> str:
    return f"{claim.id}, our rule: {claim.our_rule}." if claim.our_rule else ""
