"""What has to be known to read the tables rightly: paragraphs of plain text."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.protocol.task import get_task
from bench.reporting.analysis import CLIPS_NEEDED, Analysis, is_simulated, no_ablations
from bench.reporting.basis import asked, commits, is_tagging
from bench.reporting.coverage import held
from bench.reporting.ensembles import MOST_SYSTEMS, ensembled
from bench.reporting.grids import GridRanking, grid_ranking
from bench.reporting.marks import KINDS, NO_BETTER, footnotes
from bench.reporting.pareto import can_be_beaten, is_steady
from bench.reporting.planning import detectable
from bench.reporting.sampling import UPLOADERS_NEEDED, Units
from bench.reporting.systems import FinishedRun, Results, System
from bench.stats.inference import SEEDS_NEEDED, SHARED_SEEDS_NEEDED

__all__ = ["leaders", "origin", "reading_notes"]


def reading_notes(analysis: Analysis) -> list[str]:
    """Return chance, intervals, groups, costs, and why published figures are no reference."""
    results, systems = analysis.results, analysis.results.systems
    notes = [*_cautions(results), *_copies(results), *units_cautions(analysis.units)]
    notes += [*_unfinished_learning(results.runs), _scored(analysis), *_floors(analysis), _intervals(analysis)]
    if analysis.pairs or analysis.ablations:
        notes += [_claims(analysis), _smallest(analysis)]
    if analysis.contrasts:
        notes.append(_contrasts(analysis))
    if ranking := grid_ranking(results):
        notes.append(_grid(ranking, analysis.primary.label))
    if analysis.ablations:
        notes.append(
            "An ablation is compared with its base alone, on the same resamples; p of these differences is corrected "
            f"over all {len(analysis.ablations)} of them (Holm). Other differences between ablations are not claimed: "
            "pairs, group letters and the other figures are of the systems that are no ablation. 'Changed' is every "
            "setting in which an entry and its base differ; what is marked of a base is so of its ablations."
        )
        notes += _rescored(analysis)
    if results.search is not None:
        notes.append(_searched(results.search))
    notes += [_costs(results), _fronts(analysis)]
    if averaged := ensembled(results):
        notes.append(_ensembles(averaged, len(no_ablations(systems))))
    if legend := [f"{kind.symbol} marks {kind.legend}" for kind in KINDS if footnotes(results, kind)]:
        notes.append(f"{'; '.join(legend)}. Of a system that is some of its settings, listed below.")
    if any(system.published for system in systems):
        notes.append(_published(results))
    return notes


def _published(results: Results) -> str:
    """Return why published figures are no reference."""
    text = "Published figures can't be compared with these runs directly: they were obtained on "
    if is_tagging(results.task):
        text += "all of FSD50K, with 200 outputs, each paper with its own sample rate, chunks, training and selection."
        return text + ("" if results.labels.is_fsd50k else " The runs here are on other data altogether.")
    found = {system.published.get("data") or "other data" for system in results.systems if system.published}
    return f"{text}{'; '.join(sorted(found))}, with the paper's own context, training and selection."


def _searched(search: Mapping[str, Any]) -> str:
    """Return what the best recipes of searches are."""
    chosen = sorted({entry.get("chosen_by", "the best on val") for entry in search["entries"] if entry["best"]})
    return (
        f"X_best_... is the recipe for X that a search chose, {' or '.join(chosen) or 'if any'}; retrained, like the "
        "default one, on seeds that the search had not seen. Each architecture had the same space, the default recipe "
        f"as its first trial, and the same budget ({search['budget']}), to which trials that failed are counted. The "
        "val score of a best trial is the best of many, and so too good; the search did not read eval."
    )


def _rescored(analysis: Analysis) -> list[str]:
    """Return which ablations score the weights of their bases."""
    names = [each.system.label for each in analysis.ablations if each.system.spec.rescores]
    if not names:
        return []
    return [
        f"Nothing was trained for {', '.join(names)}: the weights of the base's runs are scored in another way, seed "
        "by seed. What training took is what it took the base."
    ]


def _costs(results: Results) -> str:
    batches = sorted({system.spec.recipe.batch_size for system in results.systems})
    what, rate, field = results.task.inputs, "samples", ""
    of_a_clip = "chunks that a clip of 10 s is scored in, also where these overlap"
    if what == "windows":
        rate = what
        of_a_clip = "windows that a clip of 10 s is cut into, each part of it being in one"
        if any("receptive_field" in system.first.cost for system in results.systems):
            field = f" 'Field' is how many {results.task.unit} an output sees at most, in windows of this context."
    return (
        f"MMACs are millions of multiply-accumulates, attention and spectrogram included, of all {of_a_clip}, divided "
        "by 10. Training time is that of the fastest seed, in brackets that of the slowest, since other work on a "
        f"machine only adds; so {rate}/s are the most, and the latency of a clip is the least. 'MiB to train' is the "
        f"most that tensors take in a step of {' or '.join(map(str, batches))} {what}.{field}"
    )


def _fronts(analysis: Analysis) -> str:
    text = (
        "'Not shown to be beaten' in P: no other system with no more parameters is significantly better; in M: none "
        "with no more MACs; in T: none that trains in no more time. It is no proof of being the best."
    )
    if not can_be_beaten(analysis):
        text += " Here no claim is about architectures, so nothing could be shown to be beaten."
    if analysis.ablations:
        text += " Ablations are compared with their base alone, and are in none of the three."
    if unsteady := [each.system.label for each in analysis.compared if not is_steady(each.system)]:
        text += (
            f" Of {', '.join(unsteady)} the slowest seed trained more than half as long again as the fastest, as on a "
            "busy machine: left out of T, and of the figure of training time."
        )
    return text


def _unfinished_learning(runs: Sequence[FinishedRun]) -> list[str]:
    """Return how many runs were best on val when training ended, and after how many epochs."""
    # one that is scored otherwise was trained as another one; of a single evaluation the last is the best, and where
    # the last weights are kept, nobody looked for the best
    trained = [
        run.record
        for run in runs
        if not run.record.spec.rescores
        and run.record.spec.recipe.evaluations > 1
        and not get_task(run.record.spec.task).keeps_last
    ]
    last = [record for record in trained if record.best_step == record.steps]
    if not last:
        return []
    epochs = [record.cost["epochs"] for record in last if "epochs" in record.cost]
    after = f" (after {median(epochs):.3g} epochs at the median)" if len(epochs) == len(last) else ""
    return [
        f"{len(last)} of {len(trained)} runs have their best val score at their last evaluation{after}: they were "
        "still getting better, so that longer training would change scores, and may change which system leads."
    ]


def _grid(ranking: GridRanking, metric: str) -> str:
    """Return where each entry is best, and whether the ranking hangs on it."""
    best = "; ".join(f"{point} for {', '.join(entries)}" for point, entries in ranking.best.items())
    text = f"The suite's grid is over {' and '.join(ranking.fields)}. Best on val: {best}."
    if not ranking.agreement:
        return text
    low, high = (f"{tau:.2f}" for tau in (ranking.agreement[0], ranking.agreement[-1]))
    # of two entries that are equal there is no tau, but a shared lead
    is_same = ranking.agreement[0] > 1 - 1e-9 and len({*ranking.leaders.values()}) < 2
    text += (
        f" The ranking of the {ranking.entries} entries by {metric} on eval is {'' if is_same else 'not '}the same at "
        "all points of the grid: "
        f"between two of them Kendall's tau is {low if low == high else f'{low} to {high}'} (1: the same order, -1: "
        "the reverse), which differences that are no more than noise lower, too."
    )
    return f"{text} {leaders(ranking)}." if ranking.leaders else text


def leaders(ranking: GridRanking) -> str:
    """Return who leads on eval at how many points of a grid, of which one has all entries."""
    (first, most), *others = Counter(ranking.leaders.values()).most_common()
    rest = "".join(f", {entry} at {count}" for entry, count in others)
    return f"{first} leads at {most} of {len(ranking.leaders)} points{rest}"


def _scored(analysis: Analysis) -> str:
    results, first, in_table = analysis.results, analysis.results.systems[0].first, analysis.results.labels.floors
    known = {floor: value for floor, value in results.floors.items() if floor not in in_table}
    floors = "".join(f" {floor.capitalize()}: {value:.3f}." for floor, value in known.items())
    if "chance" in known:
        floors = floors.replace("Chance: ", "Chance (exact expectation of random scores): ")
    told = asked(analysis)
    sentence = f"{told}." if told else results.task.definition(first.metrics, len(results.labels.clips))
    untrained = "'Untrained' is each architecture as its seed draws it."
    return f"{sentence} ± is the standard deviation over seeds.{floors} {untrained}"


def _floors(analysis: Analysis) -> list[str]:
    """Return what floors are, and how systems are compared with the best of them."""
    if not analysis.floors:
        return []
    text = (
        "Floors are predictors that learn nothing, or only count, scored on the same clips as the systems. A system "
        "that is no better has learned nothing that is not to be had without learning."
    )
    if analysis.over_floor:
        best, systems = analysis.best_floor, len(analysis.over_floor)
        label, way = analysis.primary.label, "above" if analysis.primary.higher_is_better else "below"
        text += (
            f" The best of them is {best.name}, {best.scores[analysis.primary.name]:.3f} {label}: each system is "
            f"compared with it on the same resamples, as with a system that has the same scores for every seed; {way} "
            f"0 the system is better. p is corrected over "
            f"{'the one system' if systems == 1 else f'the {systems} systems'} (Holm)."
        )
        if any(not each.is_better for each in analysis.over_floor):
            text += f" {NO_BETTER} marks systems that are not shown to be better."
    return [text]


def _intervals(analysis: Analysis) -> str:
    results, resamples = analysis.results, analysis.sampling.resamples
    text = f"Intervals rest on {resamples:,} resamples, the same for all systems. {units_note(analysis.units)} "
    text += "Behind a rank stand those that 95% of draws of clips and seeds give the system."
    if not is_simulated(results.task):
        return text
    clips, seeds = len(results.labels.clips), min(len(standing.system.runs) for standing in analysis.standings)
    (single, at), (between, _) = held("single", clips, seeds), held("difference", clips, seeds)
    simulated = f"in simulations with real label sets and {at:,} clips 95% intervals"
    if analysis.standings[0].intervals is None:
        return (
            f"{text} Under {CLIPS_NEEDED:,} eval clips a single {analysis.primary.label} has no interval: on few clips "
            f"average precision is too high by as much as the interval is wide, {simulated} held the truth in "
            f"{single:.0%} of cases. 'Corrected' is without what the resamples show of that; differences are not "
            f"corrected, for it cancels in them: their intervals held the truth in {between:.0%}."
        )
    return (
        f"{text} The interval of a single {analysis.primary.label} is corrected for average precision being too high "
        f"on few clips; {simulated} held the truth in {single:.0%} of cases, those of a difference in {between:.0%}."
    )


def units_note(units: Units) -> str:
    """Return what was resampled, and what it matters."""
    if not units.uploaders:
        return "Clips are resampled one by one, since their uploaders are not known."
    how = (
        f"Whole uploaders are resampled, {units.uploaders:,} of them"
        if units.by_group
        else "Clips are resampled one by one"
    )
    if units.by_uploader is None or units.by_clip is None:
        return f"{how}."
    effect = "" if units.design_effect is None else f", a design effect of {units.design_effect:.2f}"
    widths = f"{units.by_uploader:.4f} by uploader and {units.by_clip:.4f} clip by clip{effect}"
    return f"{how}: half widths of differences are {widths} (medians)."


def units_cautions(units: Units) -> list[str]:
    """Return a caution where clips are of so few uploaders that nothing can be resampled rightly."""
    if not 0 < units.uploaders < UPLOADERS_NEEDED:
        return []
    how = "taken whole" if units.by_group else "taken one by one, as if none were alike"
    return [
        f"Caution: these eval clips are of {units.uploaders} uploaders only, {how}; {UPLOADERS_NEEDED} are needed to "
        "resample them: intervals may be much too narrow."
    ]


def _smallest(analysis: Analysis) -> str:
    """Return the smallest difference that this table could have shown, and what equivalence is."""
    found, label, margin = detectable(analysis), analysis.primary.label, analysis.margin
    if found is None:
        return (
            f"No two systems compared here share {SHARED_SEEDS_NEEDED} seeds: no difference between architectures "
            "could have been shown, however large."
        )
    each = "" if found.pairs == 1 else f", the median of {found.pairs} ({found.low:.3f} to {found.high:.3f})"
    return (
        f"The smallest difference in {label} that these tables could have shown: {found.median:.3f}{each}, by a single "
        "comparison with a chance of 80%. So 'not significant' is not 'the same'. That is 'equivalent within "
        f"{margin:g}': the 90% interval of the same test lies within {margin:g} on either side; 'not equivalent': it "
        "lies beyond; 'inconclusive': neither."
    )


def _claims(analysis: Analysis) -> str:
    claims = [pair.primary for pair in analysis.pairs] + [ablation.claim for ablation in analysis.ablations]
    text = ""
    if any(claim.difference.generalises for claim in claims):
        text += (
            "p is corrected over all pairs that generalise (Holm), 'significant' is p of .05 or less. Two systems with "
            f"{SHARED_SEEDS_NEEDED} seeds or more in common are compared seed by seed, since a seed gives both one "
            f"order of the data; with fewer, but {SEEDS_NEEDED} a side, their seeds are independent. Clips and seeds "
            "both vary then: the claim generalises to architectures under this recipe; between systems that share a "
            "group letter no difference is significant. "
        )
    if not all(claim.difference.generalises for claim in claims):
        text += (
            "With fewer seeds only clips are resampled: the claim is about these checkpoints only, p is not corrected, "
            "'checkpoints differ' is p of .05 or less, another seed may turn it around, and there is no group letter. "
        )
    if any(claim.verdict == "undecided" for claim in claims):
        text += (
            "'Undecided': the difference is as clear as this number of resamples can show, which is too few for so "
            "many pairs: use --resamples. "
        )
    return text.strip()


def _contrasts(analysis: Analysis) -> str:
    text = (
        "Contrasts are declared in the suite, before any result is read: weighted sums of the systems' "
        f"{analysis.primary.label}. Each rests on the seeds that all its systems have, and p is corrected over the "
        "contrasts alone (Holm), which are one family of their own. Tests of all pairs are exploratory: they say what "
        "to ask next, of new seeds."
    )
    if any(contrast.weighed.planned.best_of for contrast in analysis.contrasts):
        text += " The best of several, named in brackets, is so on val: eval has no part in the choice."
    if any(contrast.claim is None for contrast in analysis.contrasts):
        text += " 'Not computed': without one of its systems a contrast would ask another question."
    return text


def _ensembles(averaged: Sequence[System], systems: int) -> str:
    text = (
        "An ensemble's scores are the mean of its checkpoints' scores; nothing is trained. Its numbers are about these "
        "checkpoints only, so they have no p and no verdict. 'Two of its own' are two seeds of one system, 'two with "
        "it' one checkpoint of each of two systems; both are means over at most 3 combinations of seeds, which the "
        "seeds' numbers alone decide. 'Gain over the better' is less two checkpoints of the better of the two, so that "
        "it is not what averaging gains as such: above zero, the two systems know together what two of the better do "
        "not. The best partner is the one with the largest such gain on eval, the best of many and so too good."
    )
    if any(len(system.runs) == 1 for system in averaged):
        text += " '(over one)': for want of a second seed, the gain is that over the better single checkpoint."
    if systems > len(averaged):
        text += f" Of {systems} systems the {MOST_SYSTEMS} that are best on val are averaged."
    return text


def _copies(results: Results) -> list[str]:
    """Return a caution where clips of eval are in train or val, too, as far as the runs' records say."""
    copied = max(run.record.data.get("copied_eval_clips") or 0 for run in results.runs)
    if not copied:
        return []
    return [
        f"Caution: of the {len(results.labels.clips):,} eval clips {copied:,} are, to the sample, in train or val, "
        "too: what is remembered is scored with what is recognised."
    ]


def _cautions(results: Results) -> list[str]:
    made = [run.record.provenance for run in results.runs]
    versions, devices = {json.dumps(p.versions, sort_keys=True) for p in made}, {p.device for p in made}
    kinds = {"sets of package versions": versions, "devices": devices}
    differ = [f"{len(values)} {kind}" for kind, values in kinds.items() if len(values) > 1]
    cautions = [f"Caution: these runs should not be compared: {reason}." for reason in results.mixed]
    for run in results.runs:
        # the hash that it was made with, whatever the rules were then
        name = f"{run.record.spec.name}-s{run.record.spec.seed}-{run.record.hash}"
        if run.folder.name != name:
            cautions.append(f"Caution: the folder {run.folder.name} holds the run {name}: it was renamed, or changed.")
    return cautions + ([f"Caution: these runs were made with {' and '.join(differ)}."] if differ else [])


def origin(results: Results) -> tuple[str, list[str]]:
    """Return device and commit in a sentence, and the commands."""
    made = [run.record.provenance for run in results.runs]
    devices = ", ".join(sorted({p.device for p in made}))
    return f"Measured on {devices}, commit {', '.join(commits(results))}, by:", sorted({p.command for p in made})
