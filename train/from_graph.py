"""Weights back out of an exported graph: the network that gave it, to the last digit that counts.

A model folder holds no checkpoint, only a graph, and exporters rename and fold:

    kept     an initializer still has its parameter's name
    moved    transposed, reshaped, computed from named ones: what reaches the operator is taken
    unnamed  the first unnamed operator, in the graph's order, whose shape is that of the next
             layer without one, in the order in which the network uses its parameters
             A batch norm is the graph's if it comes right after the layer before it
    gone     layer scales live in the weights that they scaled; a batch norm in the convolution
             before it, and is the identity here: it must not count batches when training goes on

None of these rules is trusted: network and graph then describe the same patches, and must agree.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.errors import MissingExtraError, ModelError

from .checkpoint import fill
from .graph_layers import Layer, layers_from_graph
from .models.network import Network

MAX_DIFFERENCE = 1e-5  # of descriptor entries, recovered network against graph
PARITY_PATCHES = 4

AFTER_ANOTHER = {"batch norm", "affine"}  # kinds that come right after a layer

State = dict[str, torch.Tensor]
Linear = nn.Linear | nn.Conv1d | nn.Conv2d
Norm = nn.LayerNorm | nn.GroupNorm


def fill_from_graph(network: Network, graph: Path, card: ModelCard) -> float:
    """Give a network the weights of its exported graph; their largest difference on noise.

    Raises ModelError where the graph is not fp32, of another network, or does not agree.
    """
    if card.precision != "fp32":
        raise ModelError(
            f"{graph} is {card.precision}: its rounded weights are no start for training. Take the "
            "fp32 model that it was made from, or its checkpoint folder"
        )
    try:
        layers = layers_from_graph(graph)
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    fill(network, _Recovery(network, layers, graph).state(), str(graph))
    difference = _difference(network.eval(), OnnxEngine(graph, card))
    if not difference <= MAX_DIFFERENCE:  # so that NaN fails too
        raise ModelError(
            f"the weights read from {graph} give descriptors that differ by {difference:.1e} from "
            f"its own (limit {MAX_DIFFERENCE:.0e}): an exporter folded them in a way that is not "
            "known here. Start from the checkpoint folder of the run instead"
        )
    return difference


class _FirstUses(TorchFunctionMode):
    """Notes the order in which parameters are handed to torch's functions."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._name_of = {id(value): name for name, value in network.named_parameters()}
        self.names: list[str] = []

    def __torch_function__(
        self, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None
    ) -> object:
        for value in (*args, *(kwargs.values() if isinstance(kwargs, dict) else ())):
            name = self._name_of.get(id(value))
            if name is not None and name not in self.names:
                self.names.append(name)
        assert callable(func)
        return func(*args, **(kwargs if isinstance(kwargs, dict) else {}))


@torch.no_grad()
def modules_in_use_order(network: Network) -> list[str]:
    """Names of the modules that own parameters, in the order of their first use."""
    view = network.views[0]
    with _FirstUses(network.eval()) as uses:
        network.encode(view, torch.zeros(1, 3, *network.input_px[view]))
    unused = [name for name, _ in network.named_parameters() if name not in uses.names]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in (*uses.names, *unused)))


class _Recovery:
    """Lays the layers of a graph beside the modules of a network."""

    def __init__(self, network: Network, layers: list[Layer], graph: Path) -> None:
        self._network, self._layers, self._graph = network, layers, graph
        self._left, self._last = list(layers), -1  # index of the layer that was taken last
        self._keys = frozenset(network.state_dict())
        self._loose_bias: torch.Tensor | None = None  # of a convolution that had none of its own

    def state(self) -> State:
        """All entries of the network's state dict."""
        found: State = {}
        for name in modules_in_use_order(self._network):
            module = self._network.get_submodule(name)
            found |= {f"{name}.{key}": value for key, value in self._parts(name, module)}
        self._rescale(found)
        over = [layer for layer in self._left if layer.kind != "affine"]  # that may be anything
        if over:
            raise self._fault(f"its layer {over[0]} has no counterpart")
        return found

    def _parts(self, name: str, module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        if isinstance(module, Linear):
            yield from self._linear(name, module)
        elif isinstance(module, Norm):
            layer = self._take(name, "norm", {"weight": module.weight, "bias": module.bias})
            if layer is None:
                raise self._fault(f"it has no norm for {name}")
            yield from layer.shaped({"weight": module.weight, "bias": module.bias})
        elif isinstance(module, _BatchNorm):
            yield from self._batch_norm(name, module)
        else:
            for key, value in module.named_parameters(recurse=False):
                if key != "gamma":
                    raise self._fault(f"{name}.{key} is of a kind that is not recovered")
                yield key, torch.ones_like(value)

    def _linear(self, name: str, module: Linear) -> Iterator[tuple[str, torch.Tensor]]:
        layer = self._take(name, "linear", {"weight": module.weight})
        if layer is None:
            raise self._fault(f"it has no weights of shape {tuple(module.weight.shape)} for {name}")
        yield from layer.shaped({"weight": module.weight})
        bias = layer.parts.get("bias")
        if module.bias is not None:
            yield "bias", torch.zeros_like(module.bias) if bias is None else bias.flatten()
        else:
            self._loose_bias = bias

    def _batch_norm(self, name: str, module: _BatchNorm) -> Iterator[tuple[str, torch.Tensor]]:
        """A batch norm as it is, what is left of one, or the identity where it was folded away."""
        yield "num_batches_tracked", torch.tensor(0)
        like = {key: value for key, value in module.state_dict().items() if value.ndim}
        layer = self._take(name, "batch norm", like)
        if layer is not None:
            yield from layer.shaped(like)
            return
        learned = {key: like[key] for key in ("weight", "bias")}
        layer = self._take(name, "affine", learned)
        if layer is not None:
            weight, bias = (value for _, value in layer.shaped(learned))
        else:
            weight, bias = torch.ones(module.num_features), torch.zeros(module.num_features)
            if self._loose_bias is not None:
                bias, self._loose_bias = self._loose_bias.flatten(), None
        yield "weight", weight * (1 + module.eps) ** 0.5
        yield "bias", bias
        yield "running_mean", torch.zeros(module.num_features)
        yield "running_var", torch.ones(module.num_features)

    def _take(self, name: str, kind: str, like: Mapping[str, torch.Tensor]) -> Layer | None:
        """The layer with this module's name, else the first that fits and has nobody's."""
        fitting = [layer for layer in self._left if layer.kind == kind and layer.fits(like)]
        named = [layer for layer in fitting if layer.names & {f"{name}.weight", f"{name}.bias"}]
        unnamed = [layer for layer in fitting if not layer.names & self._keys]
        if kind in AFTER_ANOTHER:  # the next of its width may be another's
            following = self._layers[self._last + 1 : self._last + 2]
            unnamed = [layer for layer in unnamed if layer in following]
        chosen = next(iter((*named, *unnamed)), None)
        if chosen is not None:
            self._left.remove(chosen)
            self._last = self._layers.index(chosen)
        return chosen

    def _rescale(self, state: State) -> None:
        """Give layer scales back a size: Adam's steps are absolute, and scaled weights small.

        The size is a power of two, which rounds nothing, and makes a block's two maps alike.
        """
        for key in [key for key in state if key.endswith(".gamma")]:
            first, second = (f"{key[: -len('gamma')]}mlp.{part}" for part in ("fc1", "fc2"))
            ratio = _rms(state[f"{second}.weight"]) / max(_rms(state[f"{first}.weight"]), 1e-30)
            if ratio > 0:
                scale = 2.0 ** round(np.log2(ratio))
                state[key] = state[key] * scale
                for part in ("weight", "bias"):
                    state[f"{second}.{part}"] = state[f"{second}.{part}"] / scale

    def _fault(self, what: str) -> ModelError:
        return ModelError(
            f"{self._graph} is not of the network that its configuration names: {what}. Start from "
            "the checkpoint folder of the run instead, or export the model again"
        )


@torch.no_grad()
def _difference(network: Network, engine: OnnxEngine) -> float:
    """Largest difference between the descriptors of network and graph on noise."""
    view = network.views[0]
    noise: NDArray[np.float32] = (
        np.random.default_rng(0)
        .standard_normal((PARITY_PATCHES, 3, *network.input_px[view]))
        .astype(np.float32)
    )
    noise[1:, :, : noise.shape[2] // 3] = 0  # as a turned frame has corners without ground
    expected = engine.infer(noise)
    actual = network.encode(view, torch.from_numpy(noise)).descriptor.numpy()
    return float(np.abs(actual - expected).max())


def _rms(values: torch.Tensor) -> float:
    return float(values.double().square().mean().sqrt())
