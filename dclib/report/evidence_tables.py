"""What records say on Tables 2 to 4: fine-tuning, retrieval and classification."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dclib.paper import TABLE2_METHODS, TABLE2_RECIPES, TABLE3_METHODS
from dclib.report.finder import Finder, average
from dclib.report.margins import Check, Evidence, Values, combine, lead
from dclib.report.series import title_of

CITIES = ("oxford", "paris")
EARLIER = ("transitive", "context")  # Table 3's methods from before the paper's, the later one first
NO_EARLIER = "the two earlier methods were not trained on these images"
FAR = 2.0  # "far behind" is less than one half
SAME_LEAD = 0.1  # points: half of the 0.2 that the paper calls shrinking
BOTH_RECIPES, BOTH_CITIES, VOC = "both recipes", "both cities", "several objects"
EARLY_LEAD, CONVERGED = "lead before convergence", "scratch ends higher by the second recipe"

# Table 2


def starts_over_scratch(find: Finder) -> Evidence:
    return _start_checks(find, [("rotnet", "random"), ("deepercluster", "random")])


def deeper_start_over_rotnet(find: Finder) -> Evidence:
    return _start_checks(find, [("deepercluster", "rotnet")])


def lead_shrinks(find: Finder) -> Evidence:
    early, late = _leads_over_scratch(find, "deepercluster")
    shrinks = Check(BOTH_RECIPES, f"{EARLY_LEAD} less that at it", lead(early, late))
    return Evidence((shrinks,), premises=_to_convergence(find, early))


def lead_stays(find: Finder) -> Evidence:
    early, late = _leads_over_scratch(find, "rotnet")
    alike = combine(lambda a, b: SAME_LEAD - np.abs(a - b), early, late) if early and late else None
    check = Check(BOTH_RECIPES, f"{SAME_LEAD} points less the change of the lead", alike, most=SAME_LEAD)
    return Evidence((check,), premises=_to_convergence(find, early))


def second_recipe_over_first(find: Finder) -> Evidence:
    first, second = ({m: _end(find, m, recipe) for m in TABLE2_METHODS.values()} for recipe in TABLE2_RECIPES)
    return Evidence(tuple(Check(BOTH_RECIPES, _start(m), lead(second[m], first[m])) for m in first))


def starts_converge_earlier(find: Finder) -> Evidence:
    recipe = TABLE2_RECIPES[0]

    def share(method: str) -> Values | None:
        """What of the accuracy at its end a start has on the mean over epochs: more where it is there earlier."""
        mean = find.values("finetuned_top1", method, average, recipe=recipe)
        return combine(lambda of_all, end: 100 * of_all / end, mean, _end(find, method, recipe))

    return Evidence(
        tuple(
            Check(
                recipe.replace("_", " "), f"{title_of(m)} over scratch", lead(share(m), share("random")), "% of the end"
            )
            for m in ("rotnet", "deepercluster")
        )
    )


def _end(find: Finder, method: str, recipe: str) -> Values:
    return find.last("finetuned_top1", method, recipe=recipe)


def _start(method: str) -> str:
    return "scratch" if method == "random" else title_of(method)


def _start_checks(find: Finder, pairs: Sequence[tuple[str, str]]) -> Evidence:
    return Evidence(
        tuple(
            Check(
                recipe.replace("_", " "),
                f"{_start(better)} over {_start(worse)}",
                lead(_end(find, better, recipe), _end(find, worse, recipe)),
            )
            for recipe in TABLE2_RECIPES
            for better, worse in pairs
        )
    )


def _leads_over_scratch(find: Finder, method: str) -> list[Values | None]:
    """The lead over scratch with each recipe: before convergence, and at it."""
    return [lead(_end(find, method, recipe), _end(find, "random", recipe)) for recipe in TABLE2_RECIPES]


def _to_convergence(find: Finder, early: Values | None) -> tuple[Check, ...]:
    """What claims about the fate of a lead presuppose: that there is one, and that the second recipe goes further."""
    scratch = [_end(find, "random", recipe) for recipe in TABLE2_RECIPES]
    return Check(BOTH_RECIPES, EARLY_LEAD, early), Check(BOTH_RECIPES, CONVERGED, lead(scratch[1], scratch[0]))


# Table 3


def retrieval_order(find: Finder) -> Evidence:
    checks = []
    for city in CITIES:
        of = _found(find, city)
        checks += [
            Check(city, "labels over DeepCluster", lead(of["supervised"], of["deepcluster"])),
            Check(city, "DeepCluster over DeeperCluster", lead(of["deepcluster"], of["deepercluster"]), tie_holds=True),
            Check(city, "DeeperCluster over RotNet", lead(of["deepercluster"], of["rotnet"])),
            Check(city, "RotNet over twice Random", combine(lambda a, b: a - FAR * b, of["rotnet"], of["random"])),
        ]
    return Evidence(tuple(checks))


def more_lost_on_oxford(find: Finder) -> Evidence:
    oxford, paris = (
        lead(of["deepcluster_curated"], of["deepercluster"]) for of in (_found(find, city) for city in CITIES)
    )
    checks = (
        Check(BOTH_CITIES, "loss on Oxford", oxford),
        Check(BOTH_CITIES, "loss on Oxford less that on Paris", lead(oxford, paris)),
    )
    return Evidence(checks)


def rotnet_below_deepcluster(find: Finder) -> Evidence:
    pairs = (("deepcluster", "rotnet"), ("deepcluster_curated", "rotnet_curated"))
    return _in_cities(find, pairs)


def curated_over_wild(find: Finder) -> Evidence:
    pairs = (
        ("rotnet_curated", "rotnet"),
        ("deepcluster_curated", "deepcluster"),
        ("supervised", "deepcluster_curated"),
    )
    return _in_cities(find, pairs)


def uncurated_deeper_over_curated_rotnet(find: Finder) -> Evidence:
    return _in_cities(find, (("deepercluster", "rotnet_curated"),))


def over_earlier_methods(find: Finder) -> Evidence:
    """The chain of the years; where the two earlier methods were not trained, its other end alone is no evidence."""
    measured = {method for city in CITIES for method, values in _found(find, city).items() if values}
    pairs = itertools.pairwise(("deepcluster", "rotnet", *EARLIER, "random"))
    return _in_cities(find, tuple(pairs), unfit=NO_EARLIER if measured and measured.isdisjoint(EARLIER) else "")


def _found(find: Finder, city: str) -> dict[str, Values]:
    return {method: find.values("retrieval_map", method, dataset=city) for method in TABLE3_METHODS.values()}


def _in_cities(find: Finder, pairs: Sequence[tuple[str, str]], *, unfit: str = "") -> Evidence:
    def named(method: str) -> str:
        return "labels" if method == "supervised" else title_of(method)

    return Evidence(
        tuple(
            Check(city, f"{named(better)} over {named(worse)}", lead(of[better], of[worse]), unfit=unfit)
            for city, of in ((city, _found(find, city)) for city in CITIES)
            for better, worse in pairs
        )
    )


# Table 4, which is on the validation split


def sobel_helps_more(find: Finder) -> Evidence:
    deeper, rotnet = _sobel_gain(find, "deepercluster"), _sobel_gain(find, "rotnet")
    gains = (Check(VOC, "gain of DeeperCluster", deeper), Check(VOC, "that gain less RotNet's", lead(deeper, rotnet)))
    return Evidence(gains)


def sobel_helps_rotnet(find: Finder) -> Evidence:
    return Evidence((Check(VOC, "gain of RotNet", _sobel_gain(find, "rotnet")),))


def deeper_over_rotnet_in_colour(find: Finder) -> Evidence:
    return _voc_order(find, "_rgb")


def deeper_over_rotnet_on_gradients(find: Finder) -> Evidence:
    return _voc_order(find, "")


def _voc_order(find: Finder, variant: str) -> Evidence:
    deeper, rotnet = (_classified(find, f"{task}{variant}") for task in ("deepercluster", "rotnet"))
    return Evidence((Check(VOC, "DeeperCluster over RotNet", lead(deeper, rotnet)),))


def _sobel_gain(find: Finder, task: str) -> Values | None:
    return lead(_classified(find, task), _classified(find, f"{task}_rgb"))


def _classified(find: Finder, method: str) -> Values:
    return find.values("voc_map", method, setting="fc68", split="val")
