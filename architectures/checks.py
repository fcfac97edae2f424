"""The checks that every architecture must pass: used by the tests and by `bench check`."""

from collections.abc import Callable

import torch
from torch import nn

from architectures import config_values, configure, create, failure, get_architecture

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


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise CheckFailed(text)


@_check("takes (b, n) waveforms and returns (b, k) logits")
def _check_shape(name: str) -> None:
    # two rates: a layer sized for 16 kHz alone fails here, not when the pack of another rate is trained on
    for sample_rate in (_SECOND, 22_050):
        model = create(name, num_classes=_CLASSES, sample_rate=sample_rate)
        shape = tuple(model(_noise(2, sample_rate)).shape)
        _require(shape == (2, _CLASSES), f"a second at {sample_rate} Hz gives {shape}, should be (2, {_CLASSES})")


@_check("takes clips longer than a second")
def _check_longer(name: str) -> None:
    # one sample over, which fills no patch and no frame
    shape = tuple(_model(name)(_noise(2, 3 * _SECOND + 1)).shape)
    _require(shape == (2, _CLASSES), f"3 s give {shape}, should be (2, {_CLASSES})")


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
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    _require(not without, f"no gradient: {', '.join(without)}")


@_check("treats each clip of a batch alone in eval mode")
@torch.no_grad()
def _check_alone(name: str) -> None:
    # else a clip's score would depend on which clips happen to be evaluated with it
    model, x = _model(name).eval(), _noise()
    together, alone = model(x), torch.cat([model(clip.unsqueeze(0)) for clip in x])
    difference = (together - alone).abs().max()
    _require(torch.allclose(together, alone, atol=1e-4), f"clips differ by up to {difference:.2g}")


@_check("draws the same weights from the same seed, others from another")
def _check_seed(name: str) -> None:
    models = [_model(name, seed) for seed in (1, 1, 2)]
    first, again, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models)
    _require(torch.equal(first, again), "the same seed gives other weights: use torch's generator only")
    _require(not torch.equal(first, other), "two seeds give the same weights")


@_check("round-trips its state dict and its config")
@torch.no_grad()
def _check_round_trip(name: str) -> None:
    # a run's folder keeps these two, and nothing else to build the model from
    config = configure(name, num_classes=_CLASSES, sample_rate=_SECOND)
    values = config_values(config, get_architecture(name).config)
    _require(configure(name, **values) == config, "configure(**config_values(config)) is another config")
    first, second = _model(name, 1).eval(), _model(name, 2)
    second.load_state_dict(first.state_dict())
    _require(torch.equal(first(_noise()), second.eval()(_noise())), "a copy of the weights gives other logits")
