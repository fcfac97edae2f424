"""The eval clips that a run gets most wrong, class by class: of what it has kept, without its weights. No torch."""

import difflib
import re

import numpy as np
import pandas as pd

from bench.errors import UserError
from bench.protocol.task import task_of
from bench.store import Labels, ResultsFolder, RunFolder

__all__ = ["describe_hardest", "figure_names", "hardest_clips"]

MISSED, HEARD = "missed", "false alarm"
_NO_NAME = re.compile(r"[^\w.\-]+")


def hardest_clips(folder: RunFolder, label: str, count: int) -> pd.DataFrame:
    """Return the clips with a label that a run scored lowest, then as many without it that it scored highest.

    The columns are kind (missed, false alarm), clip, score, rank (of all eval clips by this class's score), labels and
    place (of the clip in eval). Raises UserError for a class that there is none of, and for a run without scores.
    """
    record, results = folder.record(), ResultsFolder(folder.path.parent)
    # where scores are those of classes, without any there are none
    if task_of(record.spec).score_shape(np.empty((0, 0), bool)) != (0, 0):
        raise UserError(f"{folder.path}: of task {record.spec.task}, which scores no classes; give a run of tagging")
    known = results.labels()
    if known.dataset != record.dataset:
        fix = "move the run's folder back to where it was made"
        raise UserError(f"{results.labels_file}: of other data than {folder.path}; {fix}")
    k = _column(known, label)
    scores, has = folder.scores(known.targets.shape)[:, k], known.targets[:, k]
    # of equal scores the first clip comes first
    falling = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(scores), dtype=int)
    ranks[falling] = np.arange(1, len(scores) + 1)
    rising = np.argsort(scores, kind="stable")
    chosen = [(MISSED, i) for i in rising[has[rising]][:count]] + [(HEARD, i) for i in falling[~has[falling]][:count]]
    rows = [
        (kind, known.clips[i], float(scores[i]), int(ranks[i]), " ".join(_labels_of(known, i)), int(i))
        for kind, i in chosen
    ]
    return pd.DataFrame(rows, columns=["kind", "clip", "score", "rank", "labels", "place"])


def _column(known: Labels, label: str) -> int:
    if label in known.classes:
        return known.classes.index(label)
    folded = {name.casefold(): name for name in known.classes}
    near = difflib.get_close_matches(label.replace(" ", "_").casefold(), folded, n=3)
    if near:
        hint = f" (did you mean {' or '.join(repr(folded[name]) for name in near)}?)"
    else:
        hint = f"; there are {', '.join(known.classes[:5])}, ... ({len(known.classes)} in all)"
    raise UserError(f"no class {label!r} in these results{hint}")


def _labels_of(known: Labels, clip: int) -> list[str]:
    return [known.classes[k] for k in np.flatnonzero(known.targets[clip])]


def figure_names(label: str, found: pd.DataFrame) -> list[str]:
    """Return the name of each clip's figure, without suffix, in whose order they are: Bark-missed-1-247746."""
    digits, names, counts = len(str(len(found))), [], dict.fromkeys((MISSED, HEARD), 0)
    for kind, clip in zip(found["kind"], found["clip"], strict=True):
        counts[kind] += 1
        parts = (label, kind.replace(" ", "-"), f"{counts[kind]:0{digits}}", clip)
        names.append("-".join(_NO_NAME.sub("_", part) for part in parts))
    return names


def describe_hardest(label: str, model: str, found: pd.DataFrame) -> str:
    """Return the clips as text, a line each: score, rank, clip, labels."""
    lines = []
    for kind, what in ((MISSED, f"with {label}, scored lowest"), (HEARD, f"without {label}, scored highest")):
        lines.append(f"eval clips {what} by {model} (score, rank among all eval clips, clip, labels):")
        rows = found[found["kind"] == kind]
        width = max(map(len, rows["clip"]), default=0)
        for score, rank, clip, labels in rows[["score", "rank", "clip", "labels"]].itertuples(index=False):
            lines.append(f"  {score:.3f}  rank {rank:<5} {clip!s:{width}}  {labels or '-'}")
        lines += ["  none"] if rows.empty else []
    return "\n".join(lines)
