"""What has to be known to read the tables rightly: paragraphs of plain text."""

import json

from bench.reporting.analysis import Analysis, simulated_coverage
from bench.reporting.systems import Results
from bench.reporting.tables.table import INFERRED
from bench.stats.inference import SEEDS_NEEDED, SHARED_SEEDS_NEEDED

__all__ = ["origin", "reading_notes"]


def reading_notes(analysis: Analysis) -> list[str]:
    """Return chance, intervals, groups, costs, and why published figures are no reference."""
    results, systems = analysis.results, analysis.results.systems
    batches = sorted({system.spec.recipe.batch_size for system in systems})
    notes = [*_cautions(results), _scored(results), _intervals(analysis)]
    if analysis.pairs or analysis.ablations:
        notes.append(_claims(analysis))
    if analysis.ablations:
        notes.append(
            "An ablation is compared with its base alone, on the same resamples; p of these differences is corrected "
            f"over all {len(analysis.ablations)} of them (Holm). Other differences between ablations are not claimed: "
            "pairs, group letters and the other figures are of the systems that are no ablation. 'Changed' is every "
            "setting in which an entry and its base differ; what is inferred of a base is so of its ablations."
        )
    if results.search is not None:
        notes.append(
            "X_best_... is the recipe for X that was best on val in a search, retrained, like the default one, on "
            "seeds that the search had not seen. Each architecture had the same space, the default recipe as its first "
            f"trial, and the same budget ({results.search['budget']}), to which trials that failed are counted. The "
            "val score of a best trial is the best of many, and so too good; the search did not read eval."
        )
    notes.append(
        "MMACs are millions of multiply-accumulates, attention and spectrogram included; 'MiB to train' is the most "
        f"that tensors take in a step of {' or '.join(map(str, batches))} chunks. On the Pareto front: no other system "
        "scores as much with fewer parameters (P), fewer MACs (M), in less training time (T)."
    )
    if any(system.spec.inferred for system in systems):
        what = "architectures with settings that no source documents"
        notes.append(f"{INFERRED} marks {what}: they are inferred, see below.")
    if any(system.published for system in systems):
        notes.append(
            "Published figures can't be compared with these runs directly: they were obtained on all of FSD50K, with "
            "200 outputs, each paper with its own sample rate, chunks, training and selection."
            + ("" if results.labels.is_fsd50k else " The runs here are on other data altogether.")
        )
    return notes


def _scored(results: Results) -> str:
    first, task = results.systems[0].first, results.task
    floors = "".join(f" {floor.capitalize()}: {value:.3f}." for floor, value in results.floors.items())
    if "chance" in results.floors:
        floors = floors.replace("Chance: ", "Chance (exact expectation of random scores): ")
    sentence = task.definition(first.metrics, len(results.labels.clips))
    untrained = "'Untrained' is each architecture as its seed draws it."
    return f"{sentence} ± is the standard deviation over seeds.{floors} {untrained}"


def _intervals(analysis: Analysis) -> str:
    sampling, clips = analysis.sampling, len(analysis.results.labels.clips)
    units = "whole uploaders' clips" if sampling.by_group else "clips"
    text = f"Intervals rest on {sampling.resamples:,} resamples of {units}, the same for all systems."
    # the simulations are of ranking metrics
    if analysis.results.task.name != "tagging":
        return text
    seeds = min(len(standing.system.runs) for standing in analysis.standings)
    (one, at), (between, _) = (simulated_coverage(what, clips, seeds) for what in ("absolute", "difference"))
    return (
        f"{text} That of a single mAP corrects for AP being too high on few clips, so it may end below the mAP itself. "
        f"In simulations with real label sets and {at:,} clips, 95% intervals of a single mAP held the truth in "
        f"{one:.0%} of cases, those of a difference, which are paired, in {between:.0%}."
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


def _cautions(results: Results) -> list[str]:
    made = [run.record.provenance for run in results.runs]
    versions, devices = {json.dumps(p.versions, sort_keys=True) for p in made}, {p.device for p in made}
    kinds = {"sets of package versions": versions, "devices": devices}
    differ = [f"{len(values)} {kind}" for kind, values in kinds.items() if len(values) > 1]
    cautions = [f"Caution: these runs should not be compared: {reason}." for reason in results.mixed]
    return cautions + ([f"Caution: these runs were made with {' and '.join(differ)}."] if differ else [])


def origin(results: Results) -> tuple[str, list[str]]:
    """Return device and commit in a sentence, and the commands."""
    made = [run.record.provenance for run in results.runs]
    commits = {f"{(p.commit or 'unknown')[:10]}{' with uncommitted changes' if p.dirty else ''}" for p in made}
    devices = ", ".join(sorted({p.device for p in made}))
    return f"Measured on {devices}, commit {', '.join(sorted(commits))}, by:", sorted({p.command for p in made})
