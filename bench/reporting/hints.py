"""What the headers of tables mean, in a sentence each: the page shows it where a reader points at one."""

import re

from bench.reporting.analysis import Analysis
from bench.reporting.tables.table import Column

__all__ = ["hint"]

_P = "p of 'there is no difference', corrected for how many were looked at together"
# a header, or what it begins with, to what it means
_HINTS = {
    "rank": "Place by the mean over seeds; in brackets those that 95% of draws of clips and seeds give.",
    "seeds paired": "Seeds that both sides have, which are compared one by one.",
    "seeds": "Runs that differ in nothing but the seed.",
    "95% interval": "Clips and, with enough seeds, seeds are resampled.",
    "group": "Two systems that share a letter: their difference is not significant.",
    "leaf mAP": "mAP over the classes that have no class below them.",
    "lwlrap": "Label-weighted label-ranking average precision: how high a clip's own labels rank among all.",
    "untrained": "Of the weights that the seed draws, before the first step.",
    "published": "As the paper reports it, on all of FSD50K; under another protocol.",
    "corrected": "Without the bias that average precision has on few clips, as resamples show it.",
    "p (Holm)": f"{_P} (Holm).",
    "p (Benjamini-Hochberg)": f"{_P} (Benjamini-Hochberg).",
    "verdict": "Significant: corrected p of .05 or less. Of few seeds it is about these checkpoints only.",
    "equivalent within": "Whether the 90% interval lies within this margin, beyond it, or neither.",
    "generalises to": "Architectures, where seeds were resampled; else these checkpoints only.",
    "parameters": "Numbers that training sets.",
    "MMACs/s of a clip": "Millions of multiply-accumulates for a second of sound.",
    "train s": "Seconds of training, of the fastest seed; in brackets of the slowest.",
    "samples/s": "Chunks trained on in a second, at most.",
    "ms a 10 s clip": "Milliseconds to score a clip of 10 s, at least.",
    "MiB to train": "The most memory that tensors take in a step.",
    "not shown to be beaten in": "P: nothing as small is significantly better; M: of no more MACs; T: trained as fast.",
    "entry - base": "The entry's score less its base's: above 0 the change helps, where more is better.",
    "weighted difference": "The sum of the systems' scores, with the contrast's weights.",
    "first - second": "The first's score less the second's.",
    "changed": "Every setting in which an entry and its base differ.",
    "gain over the better": "Over two checkpoints of the better of the two; above 0 they know more together.",
    "two of its own": "The mean of two seeds of one system.",
    "two with it": "The mean of one checkpoint of each of the two.",
    "best partner": "With the largest gain on eval: the best of many, so too good.",
}


def hint(column: Column, analysis: Analysis) -> str:
    """Return what a column's header means; '' where it says so itself."""
    primary = analysis.primary
    if column.field == primary.name and column.header == primary.label:
        definition = analysis.results.task.definition(
            analysis.results.systems[0].first.metrics, len(analysis.results.labels.clips)
        )
        return f"{definition} ± is the standard deviation over seeds."
    found = [text for start, text in _HINTS.items() if re.match(rf"{re.escape(start)}(?!\w)", column.header)]
    return found[0] if found else ""
