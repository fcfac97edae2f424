"""What the headers of tables mean, in a sentence each: the page shows it where a reader points at one."""

import re

from bench.reporting.analysis import Analysis
from bench.reporting.basis import asked, is_tagging
from bench.reporting.tables.table import Column, heading

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
    "untrained": "Of the weights that training begins with, before the first step.",
    "published": "As the paper reports it, on all of FSD50K; under another protocol.",
    "corrected": "Without the bias that average precision has on few clips, as resamples show it.",
    "p (Holm)": f"{_P} (Holm).",
    "p (Benjamini-Hochberg)": f"{_P} (Benjamini-Hochberg).",
    "windows/s": "Windows trained on in a second, at most.",
    "field": "How many samples, or codes, an output sees at most, in windows of this context.",
    "top-5": "How often what comes next is among the five likeliest codes.",
    "top-1": "How often what comes next is the likeliest code.",
    "beats it": "Whether it is shown to be better than the floor; 'no': it is shown to be worse.",
    "what it predicts": "As its first choice, then its next ones; or the probability of every code.",
    "verdict": "Significant: corrected p of .05 or less. Of few seeds it is about these checkpoints only.",
    "equivalent within": "Whether the 90% interval lies within this margin, beyond it, or neither.",
    "generalises to": "Architectures, where seeds were resampled; else these checkpoints only.",
    "parameters": "Numbers that training sets.",
    "starts from": "The entry whose weights, seed by seed, were the start; of another task, its head is not taken.",
    "by task": "What that entry was trained for.",
    "heard": "What that entry was trained on.",
    "examples heard": "Inputs of that training: steps times batch size.",
    "s before": "Seconds of that training, of its fastest seed.",
    "steps before": "Steps of that training.",
    "eval clips heard": "At most: all that are, to the sample, in train or val, where that entry was trained on train.",
    "trained": "All weights, or the last layer alone, on weights that stay as they are (a linear probe).",
    "labels used": "Share of the train clips whose labels are read.",
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
    primary, task = analysis.primary, analysis.results.task
    if column.field == primary.name and column.header in (primary.label, heading(primary, task)):
        first, clips = analysis.results.systems[0].first, len(analysis.results.labels.clips)
        definition = asked(analysis) or task.definition(first.metrics, clips).removesuffix(".")
        return f"{definition}. ± is the standard deviation over seeds."
    if column.header.startswith("published") and not is_tagging(task):
        return "As the paper reports it, on data of its own, under another protocol."
    if analysis.over_floor and column.header == f"entry - {analysis.best_floor.name}":
        found = ["The entry's score less the floor's."]
    else:
        found = [text for start, text in _HINTS.items() if re.match(rf"{re.escape(start)}(?!\w)", column.header)]
    return found[0] + _direction(column, analysis) if found else ""


def _direction(column: Column, analysis: Analysis) -> str:
    """Return which sign of a difference is whose, where it is not the usual one."""
    is_difference = column.field in ("difference", "weighted_difference") or column.header == "first - second"
    return " Below 0 what comes first is ahead." if is_difference and not analysis.primary.higher_is_better else ""
