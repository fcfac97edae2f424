"""Sound event tagging: which of the classes a clip holds, any number of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from bench.protocol.metrics import Bools, Floats, average_precision, chance_map, evaluate, macro_map
from bench.protocol.task import Metric, Statistic, Task, register_task

if TYPE_CHECKING:
    from torch import Tensor

    from bench.protocol.recipe import Recipe

__all__ = ["Tagging"]


class Tagging(Task):
    """Multi-label classification, judged by the macro mean average precision (mAP)."""

    name = "tagging"
    metrics = tuple(
        Metric(name, label, lowest=0.0, highest=1.0)
        for name, label in (("map", "mAP"), ("leaf_map", "leaf mAP"), ("lwlrap", "lwlrap"))
    )
    losses = ("bce", "huber")
    class_metric: ClassVar[Metric] = Metric("class_ap", "AP")

    def loss(self, recipe: "Recipe", logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return binary cross-entropy, or Huber loss between probabilities and labels (arXiv:2105.00335)."""
        from torch.nn import functional as F

        if recipe.loss == "huber":
            return F.huber_loss(logits.sigmoid(), targets)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def activation(self, logits: "Tensor") -> "Tensor":
        return logits.sigmoid()

    def evaluate(self, targets: Bools, scores: Floats, leaf: Bools) -> dict[str, float | int]:
        return evaluate(targets, scores, leaf)

    def selection_score(self, targets: Bools, scores: Floats) -> float:
        return macro_map(targets, scores)

    def class_scores(self, targets: Bools, scores: Floats) -> Floats:
        return average_precision(targets, scores)

    def floors(self, targets: Bools) -> dict[str, float]:
        return {"chance": chance_map(targets)}

    def statistic(self, targets: Bools, scores: Floats, leaf: Bools) -> Statistic:
        # numba takes a second to load, which only statistics should wait for
        from bench.stats.ranking import RankedRun

        ranked = RankedRun(scores, targets)
        return lambda weights: ranked.metrics(weights, leaf)

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:
        """Name the classes that mAP is a mean over."""
        left_out = f" ({metrics['classes_left_out']} without positives left out)" if metrics["classes_left_out"] else ""
        return f"mAP is the macro mean over {metrics['classes_scored']} classes of eval's {clips} clips{left_out}."


register_task(Tagging())
