"""The checks that every architecture must pass: used by the tests and by `bench check`."""

from collections.abc import Callable

import torch
from torch import nn

from architectures import (
    config_values,
    configure,
    contained,
    create,
    failure,
    get_architecture,
    pass_on,
    require_dense,
    require_weights,
)

__all__ = ["CHECKS", "CheckFailed", "failed_checks"]

_SECOND = 16_000
# unlike any size in use, so that a forgotten num_classes shows in the shape
_CLASSES = 7
_Check = Callable[[str], None]
CHECKS: dict[str, _Check] = {}


class CheckFailed(AssertionError):
    """A check that failed, with the reason in plain words."""


def failed_checks(name: str) -> dict[str, str]:
    """Return the text of each check that an architecture fails, with the reason; empty if it passes all."""
    failed = {}
    for text, check in CHECKS.items():
        try:
            with contained():
                check(name)
        except CheckFailed as error:
            failed[text] = str(error)
        except Exception as error:
            failed[text] = failure(name, error)
            # it does not run: the other checks would only repeat the reason
            if check is _check_shape:
                break
    return failed


def _check(text: str) -> Callable[[_Check], _Check]:
    def add(check: _Check) -> _Check:
        CHECKS[text] = check
        return check

    return add


def _model(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create(name, num_classes=_CLASSES, sample_rate=_SECOND)


def _noise(b: int = 3, n: int = _SECOND) -> torch.Tensor:
    return 0.1 * torch.randn(b, n, generator=torch.Generator().manual_seed(0))


def _trained(name: str, seed: int = 0) -> nn.Module:
    """Return a model after two steps, so that what a step leaves behind is there: moments, running means, whatever."""
    model = _model(name, seed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(_noise(2)), torch.ones(2, _CLASSES)).backward()
        optimizer.step()
    return model


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise CheckFailed(text)


def _require_logits(logits: object, what: str) -> None:
    _require(isinstance(logits, torch.Tensor), f"{what} a {type(logits).__name__}, should be a tensor of logits")
    assert isinstance(logits, torch.Tensor)
    shape = tuple(logits.shape)
    _require(shape == (2, _CLASSES), f"{what} {shape}, should be (2, {_CLASSES})")
    _require(logits.is_floating_point(), f"{what} {str(logits.dtype).removeprefix('torch.')}, should be floats")


@_check("takes (b, n) waveforms and returns (b, k) logits")
def _check_shape(name: str) -> None:
    # two rates: a layer sized for 16 kHz alone fails here, not when the pack of another rate is trained on
    for sample_rate in (_SECOND, 22_050):
        model = create(name, num_classes=_CLASSES, sample_rate=sample_rate)
        # before the first step of any check, which would write where it should not
        require_dense(model)
        _require_logits(model(_noise(2, sample_rate)), f"a second at {sample_rate} Hz gives")
    with torch.inference_mode():
        _require_logits(model.eval()(_noise(2, sample_rate)), "eval mode gives")


@_check("takes clips longer than a second")
def _check_longer(name: str) -> None:
    # one sample over, which fills no patch and no frame
    _require_logits(_model(name)(_noise(2, 3 * _SECOND + 1)), "3 s give")


@_check("returns logits, not probabilities")
def _check_logits(name: str) -> None:
    # after the sigmoid, or a softmax, no output is negative, whatever the weights
    outputs = torch.cat([_model(name, seed).eval()(_noise()) for seed in range(4)])
    _require(bool((outputs < 0).any()), "no output is negative: leave out the sigmoid")


@_check("stays finite on silence, full scale, a click and a constant")
def _check_finite(name: str) -> None:
    # in this order: silence, a constant, full scale, a click
    x = torch.zeros(4, _SECOND)
    x[1:3] = 1.0
    x[2, ::2] = -1.0
    x[3, _SECOND // 2] = 1.0
    model = _model(name)
    for training in (False, True):
        logits = model.train(training)(x)
        _require(bool(logits.isfinite().all()), f"{'training' if training else 'eval'} mode gives {logits.tolist()}")
    # finite logits are not enough: the gradient of a square root or a norm at zero is not
    logits.sum().backward()
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    _require(not bad, f"gradients that are not finite: {', '.join(bad)}")


@_check("gives every parameter a gradient")
def _check_gradients(name: str) -> None:
    model = _model(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    # twice: a layer may rightly start at zero, which keeps gradients from those before it
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(_noise()), torch.ones(3, _CLASSES)).backward()
        optimizer.step()
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.numel()]
    without = [n for n, p in learned if p.grad is None or not p.grad.any()]
    _require(not without, f"no gradient: {', '.join(without)}")


@_check("treats each clip of a batch alone in eval mode")
@torch.no_grad()
def _check_alone(name: str) -> None:
    # else a clip's score would depend on which clips happen to be evaluated with it
    model, x = _model(name).eval(), _noise()
    together, alone = model(x), torch.cat([model(clip.unsqueeze(0)) for clip in x])
    difference = (together - alone).abs().max()
    _require(torch.allclose(together, alone, atol=1e-4), f"clips differ by up to {difference:.2g}")


@_check("gives the same logits again in eval mode, and changes nothing by it")
def _check_repeats(name: str) -> None:
    # else a score would depend on how many were computed before: dropout that stays on, statistics that go on moving
    model, x = _trained(name).eval(), _noise(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        first, again = model(x), model(x)
    _require(torch.equal(x, _noise(2)), "the waveforms that it is given are changed")
    difference = (first - again).abs().max()
    _require(torch.allclose(first, again, atol=1e-5), f"logits differ by {difference:.2g} the second time")
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    _require(not changed, f"changed by an evaluation: {', '.join(changed)}")


@_check("draws the same weights from the same seed, others from another")
def _check_seed(name: str) -> None:
    models = [_model(name, seed) for seed in (1, 1, 2)]
    first, again, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models)
    _require(torch.equal(first, again), "the same seed gives other weights: use torch's generator only")
    _require(not torch.equal(first, other), "two seeds give the same weights")


@_check("trains to the same weights from the same seed")
def _check_training(name: str) -> None:
    # a run that was interrupted resumes with torch's generator, and no other's
    first, again = (_trained(name, 1).state_dict() for _ in range(2))
    off = [key for key, value in first.items() if not _is_close(value, again[key])]
    _require(not off, f"another time other weights in {', '.join(off)}: use torch's generator only, and keep no state")


def _is_close(value: torch.Tensor, other: torch.Tensor) -> bool:
    if value.is_floating_point() or value.is_complex():
        return torch.allclose(value, other, atol=1e-6)
    return torch.equal(value, other)


@_check("round-trips its state dict and its config")
def _check_round_trip(name: str) -> None:
    # a run's folder keeps these two, and nothing else to build the model from
    config = configure(name, num_classes=_CLASSES, sample_rate=_SECOND)
    values = config_values(config, get_architecture(name).config)
    _require(configure(name, **values) == config, "configure(**config_values(config)) is another config")
    # what is there from the start, before a step may fail for the same reason
    require_weights(_model(name).state_dict())
    first, second = _trained(name, 1).eval(), _model(name, 2).eval()
    pass_on(first, second)
    with torch.inference_mode():
        _require(torch.equal(first(_noise()), second(_noise())), "a copy of the weights gives other logits")
