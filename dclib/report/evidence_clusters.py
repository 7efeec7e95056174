"""What records say on Figures 1 to 3: clusters, their colours, and what they agree with."""

from __future__ import annotations

from dclib.records import DATA
from dclib.report.finder import Finder, Lowest, Quantile, first
from dclib.report.margins import Check, Evidence, combine, lead
from dclib.report.series import title_of

POOL = "pool"
NEARLY_ONE_COLOUR = 0.25  # of the whole pool's spread of colour
SOME, LARGE = 3, 9  # "some clusters" are three, of nine images or more each, as many as Figure 3 draws
LONG_TAIL, NO_TAIL = 0.5, 0.25  # Gini coefficients
QUARTILES = {"lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75}


def rgb_by_colour(find: Finder) -> Evidence:
    checks = []
    for name, share in QUARTILES.items():
        rotnet, deeper = (find.values("colour_spread", m, Quantile(share)) for m in ("rotnet_rgb", "deepercluster_rgb"))
        checks.append(Check(POOL, name, lead(rotnet, deeper), "levels"))
    return Evidence(tuple(checks))


def nearly_one_colour(find: Finder) -> Evidence:
    whole = find.values("colour_spread_all", "deepercluster_rgb")
    ours, dealt = (
        find.values(name, "deepercluster_rgb", Lowest(SOME, LARGE))
        for name in ("colour_spread", "colour_spread_chance")
    )
    margin = combine(lambda all_, least: NEARLY_ONE_COLOUR * all_ - least, whole, ours)
    checks = (
        Check(POOL, "a quarter of the pool's spread less that of the third most uniform cluster", margin, "levels"),
        Check(POOL, "the same of random clusters of the same sizes, less that cluster's", lead(dealt, ours), "levels"),
    )
    return Evidence(checks)


def balanced_and_easy(find: Finder) -> Evidence:
    rgb, sobel = "deepercluster_rgb", "deepercluster"
    easy = lead(*(find.last("sub_accuracy", method) for method in (rgb, sobel)))
    unbalanced = [
        combine(lambda a, b: a / b, find.last("largest_cluster", m), find.last("median_cluster", m))
        for m in (sobel, rgb)
    ]
    checks = (
        Check(POOL, "sub-classes told right, colour over gradients", easy),
        Check(POOL, "largest cluster, gradients less colour", lead(*unbalanced), "medians", tie_holds=True),
    )
    return Evidence(checks)


def long_tail(find: Finder) -> Evidence:
    tags = combine(lambda g: g - LONG_TAIL, find.values("hashtag_gini", DATA))
    labels = combine(lambda g: NO_TAIL - g, find.values("label_gini", DATA))
    checks = (
        Check(POOL, "Gini of hashtags above 0.5", tags, ""),
        Check("labelled objects", "Gini of labels below 0.25", labels, ""),
    )
    return Evidence(checks, exact=True)


def beyond_chance(find: Finder) -> Evidence:
    checks = []
    for field in ("hashtag", "device", "gps"):
        real, dealt = (
            find.values("metadata_nmi", "deepercluster", field=field, labels=labels) for labels in ("real", "shuffled")
        )
        checks.append(Check(POOL, f"{field}, NMI above chance", lead(real, dealt), ""))
    return Evidence(tuple(checks))


def agreement_rises(find: Finder) -> Evidence:
    return Evidence(
        tuple(
            Check(
                POOL,
                f"{title_of(method)}, rise of NMI",
                lead(find.last("nmi_labels", method), find.values("nmi_labels", method, first)),
                "",
            )
            for method in ("deepercluster", "deepcluster")
        )
    )
