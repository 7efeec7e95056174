"""The scorecard as a picture: a row for each claim, its margins on one scale, its verdict as colour and shape.

Text stays text: rows are HTML that folds to the width of the page, with a strip of SVG for the margins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import copysign, sqrt

from dclib.config import DataConfig
from dclib.paper import Claim
from dclib.records import Record
from dclib.report.display import Fragment
from dclib.report.findings import (
    RANGES,
    address_of,
    anchor_of,
    check_words,
    decisive,
    margin_words,
    published_check,
)
from dclib.report.margins import Check
from dclib.report.names import names_in
from dclib.report.published import label_of
from dclib.report.scorecard import OUTCOMES, Outcome, Verdict, judge
from dclib.report.series import listed, plural, seeds_of

DRAWINGS = names_in(DataConfig()).images  # what stands in a book beside editions of other images
TICKS = (1, 5, 20, 50)  # hundredths of a range, on both sides of zero; all but the first are written out
EDGE = 100.0  # of the scale: a whole range
ROOM = 48.0  # per cent of the strip's width on either side of zero
SHAPES: Mapping[Outcome, str] = {
    "holds": '<circle r="6" fill="currentColor"/>',
    "leans": '<path d="M0 -7 7 5.5H-7Z" fill="currentColor"/>',
    "does not hold": '<path d="M-5 -5 5 5M-5 5 5 -5" stroke="currentColor" stroke-width="3.4" fill="none"/>',
    "not measured": '<path d="M-6 0H6" stroke="currentColor" stroke-width="3" fill="none"/>',
}
PAPER = '<path d="M0 -8 8 0 0 8 -8 0Z" fill="none" stroke="var(--ink)" stroke-width="1.8"/>'
# classes have a prefix of their own: the theme knows a .row and a .mark
STYLE = """<style>
.dclib-verdicts{--ink:#222;--line:#bbb;--holds:#0173b2;--leans:#856300;--against:#b3440a;--nothing:#666;margin:1em 0}
html[data-theme=dark] .dclib-verdicts{--ink:#eee;--line:#666;--holds:#6bb8ee;--leans:#e3bd55;--against:#ff9c66;
--nothing:#aaa}
.dclib-verdicts .holds{color:var(--holds)}.dclib-verdicts .leans{color:var(--leans)}
.dclib-verdicts .does-not-hold{color:var(--against)}.dclib-verdicts .not-measured{color:var(--nothing)}
.dclib-verdicts svg{overflow:visible}
.dclib-verdicts svg.claim-mark{width:16px;height:16px;vertical-align:-3px;margin-right:.3em}
.dclib-verdicts .claim-row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,12rem),1fr));
gap:.2em 1.2em;padding:.7em 0;border-top:1px solid var(--line);font-size:.9em;line-height:1.4}
.dclib-verdicts .claim-row:target{outline:2px solid var(--holds);outline-offset:4px}
.dclib-verdicts p{margin:0}
.dclib-verdicts .claim-lane{margin:0 0 .5em}
.dclib-verdicts .claim-lane small{display:block;font-size:.88em}
.dclib-verdicts svg.claim-track{display:block;width:100%;height:24px}
.dclib-verdicts svg.claim-scale{display:block;width:100%;height:18px}
.dclib-verdicts svg.claim-scale text{font-size:11px;fill:var(--ink);text-anchor:middle}
.dclib-verdicts .claim-key{display:flex;flex-wrap:wrap;gap:.2em 1.2em;font-size:.85em}
.dclib-verdicts ol{display:flex;flex-wrap:wrap;gap:.1em .3em;list-style:none;margin:.2em 0 .8em;padding:0}
.dclib-verdicts ol a{display:inline-block;min-width:2.6em;padding:.2em;text-align:center;font-size:.8em;
line-height:1.3;color:inherit;text-decoration:none}
.dclib-verdicts ol a span{display:block;color:var(--ink)}
.dclib-verdicts ol svg.claim-mark{margin:0}
</style>"""


@dataclass(frozen=True)
class Lane:
    """The verdicts of one set of records, in the order of the claims."""

    label: str
    seeds: str  # which, in words
    verdicts: Sequence[Verdict]

    @property
    def title(self) -> str:
        """Whose verdicts these are, to stand above them."""
        return f"{self.label[:1].upper()}{self.label[1:]}{f' ({self.seeds})' if self.seeds else ''}"


def lanes_of(
    records: Sequence[Record],
    published: Sequence[Record],
    claims: Sequence[Claim],
    beside: Mapping[str, Sequence[Record]] | None = None,
) -> list[Lane]:
    """This run judged, and beside it the published records where there are any.

    ``beside``: records of editions of other images, by their names; then the first lanes are called those of drawings.
    """
    drawn = f"{DRAWINGS}, " if beside else ""
    lanes = [_lane(f"{drawn}{label_of(records)}", records, claims)] if records or not published else []
    if published:
        lanes.append(_lane(f"{drawn}{_published(published)}", published, claims))
    return lanes + [_lane(f"{name}, {_published(found)}", found, claims) for name, found in (beside or {}).items()]


def _lane(label: str, records: Sequence[Record], claims: Sequence[Claim]) -> Lane:
    return Lane(label, _seeds(records), judge(records, claims))


def _published(records: Sequence[Record]) -> str:
    return plural(len(seeds_of(records)), "published seed")


def verdict_picture(lanes: Sequence[Lane]) -> Fragment:
    """A row for each claim: what it says, and for each set of records the margins that decide it, and the verdict."""
    rows = list(zip(*(lane.verdicts for lane in lanes), strict=True))
    html = "".join(_row_html([lane.label for lane in lanes], row) for row in rows)
    caption = (
        "One mark for each seed: how far the claim holds (right of the line) or fails (left of it), at the check that "
        "decides its verdict; the hollow diamond is the paper's own margin there. Margins have several units, so each "
        "is drawn in hundredths of the range of its quantity: a point of accuracy is one, normalised mutual "
        "information and the Gini coefficient run from 0 to 1, colour from 0 to 255. The scale is that of square "
        "roots, for leads of a fifth of a point and of fifty to be seen in one picture."
    )
    scales = "".join(f"<div><strong>{escape(lane.title)}</strong>{_scale()}</div>" for lane in lanes)
    head = f'<div class="claim-row"><p>{_key()}</p>{scales}</div>'
    # the caption comes first: a row for each claim is too tall for the meaning of its marks to stand below
    figure = f'<figure class="dclib-verdicts"><figcaption>{escape(caption)}</figcaption>{head}{html}</figure>'
    text = [f"[Figure] {caption}", *(_row_text([lane.label for lane in lanes], row) for row in rows)]
    return Fragment(STYLE + figure, "\n\n".join(text))


def verdict_strip(lanes: Sequence[Lane]) -> Fragment:
    """The verdicts as a strip of marks, a line for each set of records, each mark a link to its claim's row."""
    lines = []
    for lane in lanes:
        marks = "".join(
            f'<li><a class="{_class(v.outcome)}" href="{address_of(v.claim)}" '
            f'aria-label="{escape(f"{v.claim.id} {v.outcome}: {v.claim.statement}")}">'
            f"{mark(v.outcome)}<span>{escape(v.claim.id)}</span></a></li>"
            for v in lane.verdicts
        )
        lines.append(f"<p>{escape(lane.title)}</p><ol>{marks}</ol>")
    text = [f"{lane.label}: {', '.join(f'{v.claim.id} {v.outcome}' for v in lane.verdicts)}" for lane in lanes]
    html = f'{STYLE}<div class="dclib-verdicts">{"".join(lines)}<p>{_key(paper=False)}</p></div>'
    return Fragment(html, "\n\n".join(text))


def mark(outcome: Outcome) -> str:
    """The shape of a verdict; its word stands beside it."""
    return f'<svg class="claim-mark" viewBox="-8 -8 16 16" aria-hidden="true">{SHAPES[outcome]}</svg>'


def place_of(margin: float, unit: str) -> float:
    """Where a margin stands across the strip, in per cent of its width: zero in the middle, square roots outwards."""
    share = min(abs(margin) * RANGES[unit], EDGE) / EDGE
    return 50 + ROOM * copysign(sqrt(share), margin)


def _seeds(records: Sequence[Record]) -> str:
    seeds = seeds_of(records)
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(map(str, seeds))}" if seeds else ""


def _row_html(labels: Sequence[str], row: Sequence[Verdict]) -> str:
    claim = row[0].claim
    said = f"<p><strong>{escape(claim.id)}.</strong> {escape(claim.statement)}</p>"
    lanes = "".join(_lane_html(label, verdict) for label, verdict in zip(labels, row, strict=True))
    return f'<div class="claim-row" id="{anchor_of(claim)}">{said}{lanes}</div>'


def _lane_html(label: str, verdict: Verdict) -> str:
    check = decisive(verdict)
    kind = _class(verdict.outcome)
    head = f'<span class="{kind}">{mark(verdict.outcome)}{escape(verdict.outcome)}</span> · {escape(label)}'
    track = _track(verdict, check) if check and check.unit in RANGES else ""
    return f'<div class="claim-lane">{head}{track}<small>{escape(_words(verdict, check))}</small></div>'


def _track(verdict: Verdict, check: Check) -> str:
    """The strip: lines of the scale, a mark for each seed, the paper's diamond."""
    shape = SHAPES[verdict.outcome]
    seeds = "".join(_at(place_of(margin, check.unit), shape) for margin in check.values)
    paper = published_check(verdict, check)
    theirs = "".join(_at(place_of(m, check.unit), PAPER) for m in paper.values) if paper else ""
    title = escape(f"{verdict.claim.id}, {verdict.outcome}. {_words(verdict, check)}")
    return (
        f'<svg class="claim-track" role="img" aria-label="{title}">{_lines()}'
        f'<g class="{_class(verdict.outcome)}">{seeds}</g>{theirs}</svg>'
    )


def _at(place: float, shape: str) -> str:
    return f'<svg x="{place:.1f}%" y="50%" width="1" height="1" aria-hidden="true">{shape}</svg>'


def _lines() -> str:
    """Zero as a full line, ticks as faint ones."""
    places = [place_of(sign * tick, "points") for tick in TICKS for sign in (-1, 1)]
    faint = "".join(
        f'<line x1="{x:.1f}%" x2="{x:.1f}%" y1="0" y2="100%" stroke="var(--line)" opacity=".6"/>' for x in places
    )
    return f'{faint}<line x1="50%" x2="50%" y1="0" y2="100%" stroke="var(--ink)" stroke-width="1.5"/>'


def _scale() -> str:
    """The numbers above the strips."""
    values = [0, *(sign * tick for tick in TICKS[1:] for sign in (-1, 1))]
    texts = "".join(
        f'<text x="{place_of(v, "points"):.1f}%" y="13">{f"{v:+d}".replace("-", "−") if v else "0"}</text>'
        for v in sorted(values)
    )
    return (
        f'<svg class="claim-scale" role="img" aria-label="scale: hundredths of the range, square roots">{texts}</svg>'
    )


def _key(*, paper: bool = True) -> str:
    kinds = "".join(f'<span class="{_class(o)}">{mark(o)}{o}</span>' for o in OUTCOMES)
    diamond = f'<svg class="claim-mark" viewBox="-9 -9 18 18" aria-hidden="true">{PAPER}</svg>'
    return f'<span class="claim-key">{kinds}{f"<span>{diamond}the paper</span>" if paper else ""}</span>'


def _words(verdict: Verdict, check: Check | None) -> str:
    """The line of words under a strip: what decides, its margin here and in the paper."""
    if check is None:
        return verdict.reason
    n = len(verdict.found.checks)
    which = f"weakest of {n} checks: " if n > 1 else ""
    paper = published_check(verdict, check)
    theirs = f"paper {margin_words(paper)}" if paper else "no number in the paper"
    missing = f"; {plural(len(verdict.found.missing), 'check')} not measured" if verdict.found.missing else ""
    return f"{which}{check_words(check)} {margin_words(check, unit=True)}; {theirs}{missing}"


def _row_text(labels: Sequence[str], row: Sequence[Verdict]) -> str:
    lanes = "; ".join(f"{label}: {v.outcome}, {_words(v, decisive(v))}" for label, v in zip(labels, row, strict=True))
    return f"{row[0].claim.id}. {row[0].claim.statement} {lanes}."


def _class(outcome: Outcome) -> str:
    return outcome.replace(" ", "-")
