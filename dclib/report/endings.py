"""What one should have seen on the pages that the paper's claims rest on: two to four lines, made from their records.

Every word that judges (rises, ahead, collapsed) is chosen by the numbers, by the rule of the scorecard where networks
are compared, so that a page of other records ends otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, median

from dclib.config import Preset
from dclib.paper import CLAIMS, TABLE2_COLUMNS, TABLE2_RECIPES, Half
from dclib.records import DATA, Record, select
from dclib.report.display import Fragment
from dclib.report.finder import Finder, first, last
from dclib.report.findings import Finding, find
from dclib.report.learning import unlearned
from dclib.report.margins import lead
from dclib.report.names import CITIES, FIELDS
from dclib.report.scorecard import Verdict, judge, tally
from dclib.report.seen import Lines, amount, compared, moved, shown_beside
from dclib.report.series import accuracy_by_layer, best_layer, listed, mean_curve, title_of
from dclib.train.chance import TASKS

STUCK = 0.98  # a loss above this share of chance has not left it
COLLAPSED = 0.5  # one cluster with more than this share of the images
EVEN = 0.05  # of a Gini coefficient: less is called even
MOST = 4  # lines
NAMED = 4  # claims that do not hold, at most


def to_have_seen(
    page: str, preset: Preset, records: Sequence[Record], published: Sequence[Record] = (), *, method: str = ""
) -> Fragment:
    """The lines of one of ``PAGES`` by its own records, and folded those by the published seeds that it shows beside.

    Args:
        method: Of a page about one network.
    """
    found = _found(page, preset, records)
    own = _lines(page, preset, records, method, [f.run for f in found])
    theirs = _lines(page, preset, published, method, [f.published for f in found if f.published]) if published else []
    return shown_beside(own, records, theirs, published)


def _lines(page: str, preset: Preset, records: Sequence[Record], method: str, verdicts: Sequence[Verdict]) -> list[str]:
    return [*PAGES[page](preset, Finder(records), method), *verdict_lines(page, verdicts)][:MOST]


def verdict_lines(page: str, verdicts: Sequence[Verdict]) -> list[str]:
    """The paper's claims that rest on the page's exhibits: how many of them hold here, and which do not."""
    measured = [verdict for verdict in verdicts if verdict.found.measured]
    if not measured:
        return []
    against = [verdict.claim.id for verdict in measured if verdict.outcome == "does not hold"]
    named = f" Not: {listed(against)}." if 0 < len(against) <= NAMED else ""
    return [f"The paper's claims that rest on {listed(EXHIBITS[page])}: {tally(measured)}.{named}"]


def _found(page: str, preset: Preset, records: Sequence[Record]) -> list[Finding]:
    """The paper's claims that rest on the page's exhibits, each once."""
    found = {f.claim.id: f for place in EXHIBITS.get(page, ()) for f in find(preset, place, records)}
    return [finding for finding in found.values() if finding.claim.is_the_papers]


# Pages


def pretraining(preset: Preset, seen: Finder, method: str) -> Lines:
    loss, chance = seen.last("loss", method), seen.last("chance_loss", method)
    if loss and chance:
        share = mean(loss.values()) / mean(chance.values())
        left = "has not left chance" if share > STUCK else f"ended at {100 * share:.0f} % of what a guess gives"
        yield f"The loss {left} ({mean(loss.values()):.2f} nats; a guess: {mean(chance.values()):.2f})."
    if method in (failed := unlearned(seen.records)):
        yield f"{failed[method]}: nothing may be concluded from its features."
    else:
        right = {task: seen.last(f"{task}_accuracy", method) for task in TASKS}
        said = [f"{words} {mean(right[task].values()):.0f} %" for task, words in TASKS.items() if right[task]]
        guess = [mean(found.values()) for task in right if (found := seen.last(f"{task}_chance", method))]
        if said:
            guessed = listed(f"{value:.3g}" for value in guess)
            yield f"It learned what it was asked. Right in the last epoch: {listed(said)} (a guess: {guessed} %)."
    nmi = [seen.values("nmi_labels", method, pick) for pick in (first, last)]
    yield from moved("Agreement of its clusters with classes that it never saw (NMI)", *nmi)
    final = seen.values("final_nmi_labels", method)
    if final and not nmi[0]:
        known = amount([*final.values()], ".2f")
        yield f"Its last features, clustered, agree with the classes by {known} (NMI; 0 is nothing, 1 all)."
    yield from _largest(seen, method)


def _largest(seen: Finder, method: str) -> Lines:
    """Whether one cluster holds too much of the images."""
    largest, images = seen.last("largest_cluster", method), seen.values("largest_cluster", method, lambda f: f[-1].n)
    if shares := [largest[seed] / images[seed] for seed in largest if images.get(seed)]:
        said = "which is a collapse" if max(shares) > COLLAPSED else "so that nothing collapsed"
        yield f"The largest cluster holds {100 * max(shares):.0f} % of the images, {said}."


def linear_probes(preset: Preset, seen: Finder, method: str) -> Lines:
    half: Half = "objects" if select(seen.records, "top1", dataset="objects") else "scenes"
    curves = {name: mean_curve(of)[0] for name, of in accuracy_by_layer(seen.records, half).items() if of}
    tops = [
        (name, best_layer(tuple(curves[name]))) for name in ("supervised", "deepercluster", "rotnet") if name in curves
    ]
    if tops:
        said = listed(f"conv{top} for {title_of(name)} ({curves[name][top - 1]:.1f} %)" for name, top in tops)
        yield f"Best layer on {half}: {said}."
    falls = [
        f"{title_of(name)} by {max(curve) - curve[-1]:.1f}"
        for name, top in tops
        if (curve := curves[name])[-1] < max(curve)
    ]
    if falls:
        yield f"From there to conv13 accuracy falls: {listed(falls)} points."
    late = [seen.accuracy(name, half, 13) for name in ("deepercluster", "rotnet", "random")]
    yield from compared("DeeperCluster", "RotNet", f"conv13, {half}", lead(late[0], late[1]))
    yield from compared("DeeperCluster", "a random network", f"conv13, {half}", lead(late[0], late[2]))


def finetuning(preset: Preset, seen: Finder, method: str) -> Lines:
    for recipe, name in zip(TABLE2_RECIPES, TABLE2_COLUMNS, strict=True):
        ends = [seen.last("finetuned_top1", start, recipe=recipe) for start in ("deepercluster", "random")]
        begins = [seen.values("finetuned_top1", start, first, recipe=recipe) for start in ("deepercluster", "random")]
        early = lead(*begins)
        after = f"last epoch (after the first: {mean(early.values()):+.1f})" if early else "last epoch"
        yield from compared("a start from DeeperCluster", "one from scratch", f"{name}, {after}", lead(*ends))


def retrieval(preset: Preset, seen: Finder, method: str) -> Lines:
    for city, name in CITIES.items():
        of = {m: seen.values("retrieval_map", m, dataset=city) for m in ("deepercluster", "deepcluster", "rotnet")}
        yield from compared("DeepCluster", "RotNet", name, lead(of["deepcluster"], of["rotnet"]))
        yield from compared("DeeperCluster", "DeepCluster", name, lead(of["deepercluster"], of["deepcluster"]))


def voc(preset: Preset, seen: Finder, method: str) -> Lines:
    gains = {}
    for task in ("deepercluster", "rotnet"):
        one, other = (seen.values("voc_map", name, setting="fc68", split="val") for name in (task, f"{task}_rgb"))
        gains[task] = lead(one, other)
        yield from compared("gradients", "colour", title_of(task), gains[task])
    both = lead(gains["deepercluster"], gains["rotnet"])
    yield from compared("DeeperCluster's gain", "RotNet's", "By gradients", both)


def hashtags(preset: Preset, seen: Finder, method: str) -> Lines:
    tags, labels = (list(seen.values(f"{what}_gini", DATA).values()) for what in ("hashtag", "label"))
    top = list(seen.values("hashtag_top_share", DATA).values())
    if tags and top:
        yield f"The most frequent 1 % of the hashtags make {top[0]:.0f} % of all uses (Gini coefficient {tags[0]:.2f})."
    if tags and labels:
        yield f"The labels are {'even' if labels[0] < EVEN else 'uneven as well'} (Gini coefficient {labels[0]:.2f})."


def colour(preset: Preset, seen: Finder, method: str) -> Lines:
    names = ("deepercluster_rgb", "deepercluster", "rotnet_rgb", "rotnet")
    spreads = {name: seen.values("colour_spread", name, _median) for name in names}
    chance = {name: seen.values("colour_spread_chance", name, _median) for name in names}
    shares = {n: 100 * mean(spreads[n].values()) / mean(chance[n].values()) for n in names if spreads[n] and chance[n]}
    if shares:
        said = listed(f"{title_of(name)} {share:.0f} %" for name, share in shares.items())
        yield f"Spread of colour in the median cluster, beside a random cluster's: {said}. Blind to colour is 100 %."
        yield f"The clusters that go most by colour are those of {title_of(min(shares, key=shares.__getitem__))}."
    saved = lead(spreads["deepercluster"], spreads["deepercluster_rgb"])
    yield from compared("on gradients", "on colour", "Spread of colour, DeeperCluster", saved, "levels of 255")


def _median(found: Sequence[Record]) -> float:
    return median(record.value for record in found)


def metadata(preset: Preset, seen: Finder, method: str) -> Lines:
    means = {}
    for field, title in FIELDS.items():
        real, dealt = (
            seen.values("metadata_nmi", "deepercluster", field=field, labels=labels) for labels in ("real", "shuffled")
        )
        if above := lead(real, dealt):
            means[title] = mean(above.values())
    if means:
        order = sorted(means, key=lambda field: -means[field])
        said = listed(f"{field} ({means[field]:+.3f})" for field in order)
        yield f"Agreement of DeeperCluster's clusters above chance (NMI): {said}."
        none = [field for field in order if means[field] <= 0]
        yield f"They tell no more than chance of {listed(none)}." if none else f"They tell most of {order[0]}."


def scorecard(preset: Preset, seen: Finder, method: str) -> Lines:
    verdicts = judge(seen.records, [c for c in CLAIMS if c.is_the_papers])
    if any(v.found.measured for v in verdicts):
        yield f"Of the paper: {tally(verdicts)}."
        yield f"Refuted as clearly as they would have to be so: {_ids(v for v in verdicts if v.is_refuted)}."
        yield f"Not measured: {_ids(v for v in verdicts if v.outcome == 'not measured')}."
        failed = listed(map(title_of, unlearned(seen.records)))
        yield f"Networks that have not learned what they were asked: {failed or 'none'}."


def _ids(verdicts: Iterable[Verdict]) -> str:
    return listed(v.claim.id for v in verdicts) or "none"


PAGES: Mapping[str, Callable[[Preset, Finder, str], Lines]] = {
    "pretraining": pretraining,
    "linear_probes": linear_probes,
    "finetuning": finetuning,
    "retrieval": retrieval,
    "voc": voc,
    "hashtags": hashtags,
    "colour": colour,
    "metadata": metadata,
    "scorecard": scorecard,
}
EXHIBITS: Mapping[str, Sequence[str]] = {
    "linear_probes": ("Table 1",),
    "finetuning": ("Table 2", "section 3"),
    "retrieval": ("Table 3",),
    "voc": ("Table 4",),
    "hashtags": ("Figure 1",),
    "colour": ("Figure 2", "Figure 3"),
    "metadata": ("section 6",),
}
