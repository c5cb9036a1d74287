"""Adding an output to a sum: in one pass over memory, if the module that makes the output can add it as it writes."""

from __future__ import annotations

from torch import Tensor, nn


class Misfit(ValueError):
    """An output, `got`, has another shape than what it is to be added to."""

    def __init__(self, onto: Tensor, got: Tensor) -> None:
        super().__init__(f"expected an output of shape {list(onto.shape)} to add to another, got {list(got.shape)}")
        self.got = got


def plus(onto: Tensor | None, y: Tensor) -> Tensor:
    """`y`, added to `onto` if that is given.

    Raises:
        Misfit: their shapes differ; addition would stretch an axis of length 1 in silence.
    """
    if onto is None:
        return y
    if onto.shape != y.shape:
        raise Misfit(onto, y)
    return onto + y


def takes_onto(module: nn.Module) -> bool:
    """Whether a module takes an argument `onto`, to which it adds its output: one pass over memory in place of two.

    A class has to declare it itself, since a class derived from it may have another `forward`.
    """
    return vars(type(module)).get("takes_onto", False) and not has_hooks(module)


def added(module: nn.Module, x: Tensor, onto: Tensor | None, **settings: bool) -> Tensor:
    """The output of a module, added to `onto` if that is given; the module takes the settings as arguments."""
    if onto is not None and takes_onto(module):
        y: Tensor = module(x, onto=onto, **settings)
        return y
    return plus(onto, module(x, **settings))


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook reads the inputs or outputs of a module, or their gradients."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)
