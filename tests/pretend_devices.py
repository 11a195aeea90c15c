"""Devices that are not there: tensors that say they lie on ``meta:N`` while the host computes, and refuse to mix.

A test double for a machine with several GPUs. Numbers are real, so whole results can be compared with those of one device; an
operation on tensors of two devices raises as CUDA does (single numbers, and indices in host memory, may mix).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

INDEXED = {"aten.index.Tensor", "aten.index_put_.default", "aten.index_put.default", "aten._index_put_impl_.default"}


class Pretended(torch.Tensor):
    """A tensor of the host that says it lies elsewhere."""

    inner: torch.Tensor
    is_meta = False  # it has numbers

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner.detach() if inner.requires_grad else inner
        return made  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the host if its tensors lie on one device; what comes out lies there too."""
    name = str(func)
    flat = tree_flatten((args, kwargs))[0]
    asked = next((one for one in flat if isinstance(one, torch.device)), None)
    tensors = [one for one in flat if isinstance(one, torch.Tensor)]
    if name in INDEXED:  # indices in host memory may select anywhere
        tensors = [one for one in tensors if isinstance(one, Pretended) or one is args[0]]
    places = {one.device for one in tensors if one.dim() or len(tensors) == 1}
    moves = name.startswith(("aten._to_copy.", "aten.copy_.", "aten.to."))
    if len(places) > 1 and not moves:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {sorted(map(str, places))}")
    inner_args, inner_kwargs = tree_map(_on_host, (args, kwargs))
    out = func(*inner_args, **inner_kwargs)
    if asked is not None and asked.type == "meta" and asked.index is None:
        asked = torch.device("meta", 0)
    place = asked if asked is not None else next(iter(places), torch.device("cpu"))
    if name == "aten.copy_.default" or (func._schema.is_mutable and out is not None and not isinstance(out, tuple)):
        return args[0]
    if place.type == "cpu":
        return out
    return tree_map(lambda one: Pretended(one, place) if isinstance(one, torch.Tensor) else one, out)


def _on_host(one: Any) -> Any:
    if isinstance(one, torch.device):
        return torch.device("cpu")
    return one.inner if isinstance(one, Pretended) else one


class Factories(TorchDispatchMode):
    """Make what is made on a device that is not there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Let ``torch.tensor`` make what it makes on the host and move it, and lists as indices stay there.

    By itself torch writes their numbers where a tensor of such a device has no memory, and forgets the device's number.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.__getitem__ and isinstance(args[1], list):
            return func(args[0], torch.tensor(args[1]))
        if func is not torch.tensor or kwargs.get("device") is None:
            return func(*args, **kwargs)
        device = torch.device(kwargs.pop("device"))
        return func(*args, **kwargs).to(device)


def moved(value: Any, device: torch.device) -> Any:
    """Return tensors inside of anything on a device."""
    return tree_map(lambda one: one.to(device) if isinstance(one, torch.Tensor) else one, value)


def place_module(module: torch.nn.Module, device: torch.device) -> None:
    """Put a module's weights on a device."""
    for inner in module.modules():
        for kind in (inner._parameters, inner._buffers):
            for name, tensor in kind.items():
                if tensor is not None and not isinstance(tensor, Pretended):
                    there: Any = Pretended(tensor.detach(), device)
                    kind[name] = (
                        torch.nn.Parameter(there, requires_grad=False)  # type: ignore[assignment]
                        if isinstance(tensor, torch.nn.Parameter)
                        else there
                    )


def align(module: torch.nn.Module, device: torch.device) -> Any:
    """Move what a module is given to its device, as accelerate's hooks do."""

    def move(_module: Any, args: Any, kwargs: Any) -> Any:
        return moved(args, device), moved(kwargs, device)

    return module.register_forward_pre_hook(move, with_kwargs=True)


@contextmanager
def spread(model: Any, place_of: Callable[[int], int], n_layers: int) -> Iterator[None]:
    """Spread a model's blocks over devices by ``place_of``; the rest lies on the first, and logits come back to it."""
    first = torch.device("meta", 0)
    inner = model.model
    with Factories(), Literals():
        for i in range(n_layers):
            place_module(inner.layers[i], torch.device("meta", place_of(i)))
            align(inner.layers[i], torch.device("meta", place_of(i)))
        place_module(model, first)
        align(inner.norm, first)
        model.hf_device_map = {f"model.layers.{i}": f"meta:{place_of(i)}" for i in range(n_layers)} | {
            "model.embed_tokens": "meta:0"
        }
        model.set_attn_implementation("eager")
        yield
