"""What has to be known to read the tables rightly: paragraphs of plain text."""

import json
from typing import Any

from bench.reporting.analysis import Analysis, simulated_coverage
from bench.reporting.systems import Results
from bench.stats.inference import SEEDS_NEEDED


def reading_notes(analysis: Analysis) -> list[str]:
    """Chance, intervals, groups, costs, and why published figures are no reference."""
    results = analysis.results
    notes = [_scored(results), _intervals(analysis), _claims(analysis)]
    notes += [_ablations(analysis), _search(results), _cost(results)]
    notes += _published(results)
    return [note for note in [*_cautions(results), *notes] if note]


def _scored(results: Results) -> str:
    metrics = results.rows[0].first["metrics"]
    left_out = metrics["classes_left_out"]
    return (
        f"mAP is the macro mean over {metrics['classes_scored']} classes of eval's {len(results.labels.clips)} clips"
        + (f" ({left_out} without positives left out)" if left_out else "")
        + ", ± its standard deviation over seeds. Chance (exact expectation of random scores): "
        + f"{results.chance_map:.3f}. 'Untrained' is each contestant as its seed draws it."
    )


def _intervals(analysis: Analysis) -> str:
    sampling, clips = analysis.sampling, len(analysis.results.labels.clips)
    seeds = min(len(standing.row.runs) for standing in analysis.standings)
    (one, at), (between, _) = (simulated_coverage(what, clips, seeds) for what in ("absolute", "difference"))
    return (
        f"Intervals rest on {sampling.resamples:,} bootstrap draws of {sampling.units}, the same draws for all rows. "
        "That of a single mAP corrects for AP being too high on few clips, so it may end below the mAP itself. In "
        f"simulations with real label sets and {at:,} clips, 95% intervals of a single mAP held the truth in {one:.0%} "
        f"of cases, those of a difference, which are paired, in {between:.0%}."
    )


def _claims(analysis: Analysis) -> str:
    enough = [s for s in analysis.standings if len(s.row.runs) >= SEEDS_NEEDED]
    if not analysis.pairs and not analysis.ablations:
        return ""
    text = "p is corrected over all pairs (Holm), 'different' is p of .05 or less. "
    if len(enough) > 1:
        text += (
            "Between rows of five seeds and more, clips and seeds both vary: the claim is about architectures under "
            "this recipe; rows that share a group letter are not shown to differ. "
        )
    if len(enough) < len(analysis.standings):
        text += (
            f"With fewer than {SEEDS_NEEDED} seeds a side only clips vary: the claim is about these checkpoints only, "
            "another seed may turn it around, and there are no group letters. "
        )
    verdicts = [pair.verdicts["map"] for pair in analysis.pairs] + [own.verdict for own in analysis.ablations]
    if "unresolved" in verdicts:
        text += (
            "'Unresolved': the difference is as clear as this number of draws can show, which is too few for so many "
            "pairs: use --resamples. "
        )
    return text.strip()


def _ablations(analysis: Analysis) -> str:
    if not analysis.ablations:
        return ""
    return (
        "An ablation is compared with its base alone, on the same draws; p of these differences is corrected over all "
        f"{len(analysis.ablations)} of them (Holm). Other differences between ablations are not claimed: pairs, group "
        "letters and the other figures are of the rows that are no ablation. 'Changed' is every setting in which a row "
        "and its base differ; what is inferred of a base is so of its ablations."
    )


def _search(results: Results) -> str:
    if results.search is None:
        return ""
    return (
        "X_best_... is the recipe for X that was best on val in a search, retrained, like the default one, on seeds "
        "that the search had not seen. Each contestant had the same space, the default recipe as its first trial, and "
        f"the same budget ({results.search['budget']}), to which trials that failed are counted. The val mAP of a best "
        "trial is the largest of many, and so too high; the search did not read eval."
    )


def _cost(results: Results) -> str:
    together = any("trained_together" in run["provenance"] for run in results.runs)
    batches = sorted({row.first["spec"]["recipe"]["batch_size"] for row in results.rows})
    return (
        "MMACs are millions of multiply-accumulates, attention and spectrogram included; 'MiB to train' is the most "
        f"that tensors take in an update of {' or '.join(map(str, batches))} chunks. On the Pareto front: no other row "
        "scores as much with fewer parameters (P), fewer MACs (M), in less training time (T)."
        + (" Training time of seeds that were trained at once is their share of it." if together else "")
    )


def _published(results: Results) -> list[str]:
    if not any(row.published for row in results.rows):
        return []
    data = "" if results.labels.is_fsd50k else " The runs here are on other data altogether."
    return [
        "Published figures can't be compared with these runs directly: they were obtained on all of FSD50K, with 200 "
        "outputs, each paper with its own sample rate, chunks, training and selection." + data
    ]


def _cautions(results: Results) -> list[str]:
    """Where numbers in one table come from different code, versions or machines."""
    made = [run["provenance"] for run in results.runs]
    kinds = {
        "sets of package versions": {json.dumps(p["versions"], sort_keys=True) for p in made},
        "devices": {p["device"] for p in made},
    }
    differ = [f"{len(values)} {kind}" for kind, values in kinds.items() if len(values) > 1]
    cautions = [f"Caution: these runs should not be compared: {reason}." for reason in results.mixed]
    return cautions + ([f"Caution: these runs were made with {' and '.join(differ)}."] if differ else [])


def origin(results: Results) -> tuple[str, list[str]]:
    """Device and commit in a sentence, and the commands."""
    made: list[dict[str, Any]] = [run["provenance"] for run in results.runs]
    devices = ", ".join(sorted({p["device"] for p in made}))
    commits = ", ".join(sorted({_commit(p) for p in made}))
    return f"Measured on {devices}, commit {commits}, by:", sorted({p["command"] for p in made})


def _commit(provenance: dict[str, Any]) -> str:
    commit = (provenance["commit"] or "unknown")[:10]
    return f"{commit} with uncommitted changes" if provenance["dirty"] else commit
