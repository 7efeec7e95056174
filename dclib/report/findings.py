"""What came out, in computed lines under each table and figure of the supplement.

They are made from the claims that rest on the exhibit and from their verdicts: no word of them can be typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean

from dclib.config import Preset
from dclib.paper import CLAIMS, NAMES, Claim, task_of
from dclib.records import Record
from dclib.report.display import Fragment
from dclib.report.margins import Check
from dclib.report.provenance import load_records
from dclib.report.published import label_of, load_published
from dclib.report.scorecard import MARKS, Verdict, judge, tally
from dclib.report.series import listed, plural, seeds_of, spread

# unit of a margin -> hundredths of the range of its quantity; sizes in medians have none, and are taken as they are
RANGES = {"points": 1.0, "% of the end": 1.0, "": 100.0, "levels": 100 / 255, "medians": 1.0}
ADVERSE_SHOWN = 4  # claims of an exhibit that are written out; the others fold
ORDER = ("does not hold", "leans", "holds", "not measured")  # what speaks against the paper comes first


@dataclass(frozen=True)
class Finding:
    """One claim judged twice: by this run's records, and by the published ones of several seeds where there are any."""

    claim: Claim
    run: Verdict
    published: Verdict | None = None
    seeds: int = 0  # published ones
    own: str = "this run"  # whose records those of the page are

    @property
    def best(self) -> Verdict:
        """The verdict of more seeds."""
        return self.published if self.published and self.published.found.measured else self.run

    @property
    def by(self) -> str:
        """Whose verdict that is, in words."""
        if self.best.found.exact:
            return "counted over the images"
        return plural(self.seeds, "published seed") if self.best is self.published else self.own


def anchor_of(claim: Claim) -> str:
    """The name of a claim's row on the page of the scorecard."""
    return f"claim-{claim.id}"


def address_of(claim: Claim) -> str:
    """Where that row is, as seen from the page of a stage."""
    return f"../stages/scorecard.html#{anchor_of(claim)}"


def exhibits_of(claim: Claim) -> list[str]:
    """The tables and figures of the supplement that a claim rests on; Figure 2 of the main paper is its Table 1.

    A claim that rests on none belongs to the section that makes it.
    """
    tables = {f"Table {number.table}" for number in claim.numbers}
    named = re.findall(r"\b(Table|Figure) (\d)(?! of the main)", claim.where)
    found = sorted(tables | {f"{kind} {number}" for kind, number in named})
    return found or re.findall(r"\bsection \d(?:\.\d)?", claim.where)


def decisive(verdict: Verdict) -> Check | None:
    """The check that decides a verdict: the first that speaks against the claim, else that of the smallest margin.

    A premise that is met within luck only decides as well: the claim cannot do more than lean then. None where the
    claim is not judged: its margins, if there are any, say nothing.
    """
    if verdict.outcome == "not measured":
        return None

    def strength(check: Check) -> tuple[bool, bool, float]:
        return check.leans, check.is_clear, mean(check.values) * RANGES.get(check.unit, 1.0)

    premises = [premise for premise in verdict.found.premises if premise.margins and premise.leans]
    return min((*verdict.found.measured, *premises), key=strength, default=None)


def published_check(verdict: Verdict, check: Check) -> Check | None:
    """The same check of the paper's own numbers; None where it gives none."""
    paper = (*verdict.published.measured, *verdict.published.premises)
    same = (c for c in paper if (c.subject, c.name) == (check.subject, check.name))
    return next(same, None)


def margin_words(check: Check, *, unit: bool = False) -> str:
    """``-8.8 ± 2.9 points``."""
    values = check.values
    digits = 1 if check.unit in ("points", "levels") else 2
    deviation = f" ± {spread(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):+.{digits}f}{deviation}{f' {check.unit}' if unit and check.unit else ''}".replace("-", "−")


def check_words(check: Check) -> str:
    """What is compared, with what it is about."""
    return f"{check.subject}, {check.name}"


def find(preset: Preset, exhibit: str, records: Sequence[Record], *, method: str = "") -> list[Finding]:
    """The claims that rest on an exhibit, judged; those that speak against the paper first.

    Args:
        exhibit: ``Table 3``, ``Figure 2``, ``section 6``: of the supplement.
        records: Those of the page. Records of training are read besides, for a claim may ask whether a network has
            learned its task; of other pages none, so that a page does not depend on which have run before it.
        method: For the page of one network: keep only claims about it. They compare it with others, which have not
            run yet, so that the published records speak, or nobody.
    """
    claims = [c for c in CLAIMS if exhibit in exhibits_of(c) and (not method or _is_about(c, method))]
    stages = {r.card.stage for r in records if r.card} | {"pretrain"}
    everything = [r for r in load_records(preset) if r.card and r.card.stage in stages]
    here = [r for r in everything if r.card and r.card.method == method] if method else everything
    others = load_published(preset, here, all_methods=True)
    own = [v if not (method and v.found.missing) else judge([], [v.claim])[0] for v in judge(here, claims)]
    judged = judge(others, claims) if others else [None] * len(claims)
    n = len(seeds_of(others))
    found = [
        Finding(c, run, published, n, label_of(records)) for c, run, published in zip(claims, own, judged, strict=True)
    ]
    return sorted(found, key=lambda f: (not f.claim.is_the_papers, ORDER.index(f.best.outcome)))


def what_came_out(preset: Preset, exhibit: str, records: Sequence[Record], *, method: str = "") -> Fragment:
    """Under an exhibit: each claim that rests on it, what the paper found and what was found here, and the verdict.

    See :func:`find` for the arguments.
    """
    found = find(preset, exhibit, records, method=method)
    if not found:
        sentence = f"No claim of the paper rests on {f'this network in {exhibit}' if method else exhibit}."
        return Fragment(f'<p class="dclib-finding">{sentence}</p>', sentence)
    head = f"Paper and here, {exhibit}: {tally([finding.best for finding in found])}."
    shown, folded = found[:ADVERSE_SHOWN], found[ADVERSE_SHOWN:]
    html = f"<p><strong>{escape(head)}</strong></p><ul>{_items(shown)}</ul>"
    if folded:
        line = f"{len(folded)} more: {', '.join(f'{f.claim.id} {f.best.outcome}' for f in folded)}"
        html += f'<details class="dclib-fold"><summary>{escape(line)}</summary><ul>{_items(folded)}</ul></details>'
    text = "\n".join([head, "", *(f"- {_mark(f)} {f.claim.id} {sentence_of(f)}" for f in found)])
    return Fragment(f'<div class="dclib-finding">{html}</div>', text)


def in_short(preset: Preset, exhibit: str, records: Sequence[Record]) -> Fragment:
    """Under a figure whose table follows on the page: the verdicts in one line."""
    found = find(preset, exhibit, records)
    links = " · ".join(f"{_mark(f)} {_link(f.claim)} {escape(f.best.outcome)}" for f in found)
    text = " · ".join(f"{_mark(f)} {f.claim.id} {f.best.outcome}" for f in found)
    whom = listed(sorted({f.by for f in found if f.best.found.measured})) or "nothing measured yet"
    head = f"Paper and here ({whom}):"
    return Fragment(f'<p class="dclib-finding"><strong>{escape(head)}</strong> {links}</p>', f"{head} {text}")


def sentence_of(finding: Finding) -> str:
    """What the paper found and what was found here, of one claim, behind its number."""
    claim, verdict, check = finding.claim, finding.best, decisive(finding.best)
    if check is None:
        return f"{verdict.outcome}: {verdict.reason}. Paper: {claim.statement}"
    paper = published_check(verdict, check)
    theirs = margin_words(paper) if paper else f"({claim.published or 'no number'})"
    of = len(verdict.found.checks)
    what = (f"weakest of {of} checks: " if of > 1 else "") + check_words(check)
    n, agreeing = len(check.values), check.agreeing
    against = f", {n - agreeing} of {n} seeds against it" if n > 1 and agreeing < n else ""
    numbers = f"paper {theirs}, here {margin_words(check, unit=True)}{against}"
    said = f"{verdict.outcome} here ({finding.by}). Paper: {claim.statement} Margin ({what}): {numbers}."
    return said + _this_run(finding, check)


def _this_run(finding: Finding, check: Check) -> str:
    """The run's own verdict and margin, where the published seeds have spoken."""
    if finding.best is finding.run or finding.run.found.exact:
        return ""
    own = decisive(finding.run)
    if own is None:
        return " This run: on the scorecard."
    same = (own.subject, own.name) == (check.subject, check.name)
    return f" This run {finding.run.outcome}: {'' if same else f'{check_words(own)} '}{margin_words(own, unit=True)}."


def _is_about(claim: Claim, method: str) -> bool:
    """Whether a claim rests on numbers of this network."""
    name = NAMES.get(method, "")
    return bool(name) and task_of(method) == method and any(n.row.split(", ")[-1] == name for n in claim.numbers)


def _items(findings: Sequence[Finding]) -> str:
    return "".join(f"<li>{_mark(f)} {_link(f.claim)} {escape(sentence_of(f))}</li>" for f in findings)


def _mark(finding: Finding) -> str:
    return MARKS[finding.best.outcome]


def _link(claim: Claim) -> str:
    return f'<a href="{address_of(claim)}">{escape(claim.id)}</a>'
