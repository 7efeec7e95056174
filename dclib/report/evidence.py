"""What records say for or against each claim of the paper: which comparisons a claim is made of.

Every claim becomes a list of checks, each a margin per seed that is above zero where the claim holds. The same
code reads our records and, put into the form of records, the published tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dclib.records import Record
from dclib.report import evidence_clusters as clusters
from dclib.report import evidence_layers as layers
from dclib.report import evidence_tables as tables
from dclib.report.finder import Finder
from dclib.report.learning import unlearned
from dclib.report.margins import Evidence

EVIDENCE: Mapping[str, Callable[[Finder], Evidence]] = {
    "C1": layers.last_layer_order,
    "C2": layers.early_then_falling,
    "C3": layers.peak_before_last,
    "C4": layers.smaller_gap_on_scenes,
    "C5": tables.starts_over_scratch,
    "C6": tables.deeper_start_over_rotnet,
    "C7": tables.retrieval_order,
    "C8": tables.more_lost_on_oxford,
    "C9": tables.sobel_helps_more,
    "C10": clusters.rgb_by_colour,
    "C11": clusters.nearly_one_colour,
    "C12": clusters.long_tail,
    "C13": clusters.beyond_chance,
    "C14": tables.lead_shrinks,
    "C15": tables.second_recipe_over_first,
    "C16": tables.rotnet_below_deepcluster,
    "C17": tables.deeper_over_rotnet_in_colour,
    "C18": tables.deeper_over_rotnet_on_gradients,
    "C19": tables.sobel_helps_rotnet,
    "C20": tables.lead_stays,
    "C21": tables.starts_converge_earlier,
    "C22": tables.curated_over_wild,
    "C23": tables.over_earlier_methods,
    "C24": layers.later_layers,
    "C25": layers.labels_peak_last,
    "C26": layers.rotnet_over_labels,
    "C27": layers.deeper_over_labels,
    "C28": layers.labels_over_rotnet,
    "C29": layers.labels_over_deeper,
    "C30": clusters.balanced_and_easy,
    "C31": tables.uncurated_deeper_over_curated_rotnet,
    "K1": layers.all_over_random,
    "K2": clusters.agreement_rises,
}


def gather(records: Sequence[Record]) -> Mapping[str, Evidence]:
    """What some records say about each claim; checks without records are kept, empty.

    What compares a network that has not learned its task says nothing.
    """
    find, idle = Finder(records), unlearned(records)
    return {claim_id: found(find).without(idle) for claim_id, found in EVIDENCE.items()}
