"""Linear attention as a TensorRT plugin in Python (IPluginV3), for TensorRT 10.3 and later.

The engine needs this module wherever it runs. TensorRT asks for a GPU's kernels when it announces
shapes; enqueue only launches, so that a CUDA graph holds the kernels and no Python.
"""
# ruff: noqa: ARG002 - the methods have TensorRT's arguments, used or not

import logging
import math

import numpy as np
import tensorrt as trt

from skyfix.runtime.engines.cuda import open_device

from .kernels import Addresses, LinearAttentionKernels, kernels_here
from .node import EPSILON_ATTRIBUTE, EPSILON_DEFAULT, NAMESPACE, OPERATOR, VERSION
from .tiling import MAX_HEAD_DIM, MAX_HEADS, Problem, Schedule, Variant, tiling_of, workspace_bound

INPUTS = 3  # query, key, value

log = logging.getLogger(__name__)


class LinearAttentionPlugin(
    trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime
):
    """One node."""

    def __init__(self, epsilon: float) -> None:
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        trt.IPluginV3OneBuild.__init__(self)
        trt.IPluginV3OneRuntime.__init__(self)
        self.plugin_name, self.plugin_namespace = OPERATOR, NAMESPACE
        self.plugin_version, self.num_outputs = VERSION, 1
        self.epsilon = epsilon
        self.problem: Problem | None = None
        self.schedule: Schedule | None = None
        self.kernels: LinearAttentionKernels | None = None

    def get_capability_interface(self, type: trt.PluginCapabilityType) -> "LinearAttentionPlugin":  # noqa: A002  (TensorRT's name)
        """Core, build and run time are one class."""
        return self

    def clone(self) -> "LinearAttentionPlugin":
        """A plugin of the same attributes; TensorRT announces shapes to each anew."""
        return LinearAttentionPlugin(self.epsilon)

    def attach_to_context(self, context: trt.IPluginResourceContext) -> "LinearAttentionPlugin":
        """A plugin of its own for each execution context."""
        return self.clone()

    def get_fields_to_serialize(self) -> trt.PluginFieldCollection:
        """What the engine's file keeps; the creator gets it back."""
        return trt.PluginFieldCollection([_epsilon_field(self.epsilon)])

    def get_output_data_types(self, input_types: list[trt.DataType]) -> list[trt.DataType]:
        """The queries' type."""
        return [input_types[0]]

    def get_output_shapes(
        self,
        inputs: list[trt.DimsExprs],
        shape_inputs: list[trt.DimsExprs],
        exprBuilder: trt.IExprBuilder,  # noqa: N803  (TensorRT passes it by this name)
    ) -> list[trt.DimsExprs]:
        """The queries' shape."""
        return [trt.DimsExprs(inputs[0])]

    def supports_format_combination(
        self, pos: int, in_out: list[trt.DynamicPluginTensorDesc], num_inputs: int
    ) -> bool:
        """All FP32 or all FP16, contiguous."""
        found, first = in_out[pos].desc, in_out[0].desc
        return (
            found.format == trt.TensorFormat.LINEAR
            and found.type in {trt.DataType.FLOAT, trt.DataType.HALF}
            and (pos == 0 or found.type == first.type)
        )

    def configure_plugin(
        self, inp: list[trt.DynamicPluginTensorDesc], out: list[trt.DynamicPluginTensorDesc]
    ) -> None:
        """Refuse, while the engine is built, what the kernels cannot do."""
        check_shapes([_shape(tensor.max) for tensor in inp])

    def get_workspace_size(
        self, inp: list[trt.DynamicPluginTensorDesc], out: list[trt.DynamicPluginTensorDesc]
    ) -> int:
        """Bytes of partial sums for the largest batch."""
        batch, heads, _, head_dim = _shape(inp[0].max)
        multiprocessors = open_device().multiprocessors
        return workspace_bound(batch * heads, tiling_of(head_dim), multiprocessors)

    def on_shape_change(
        self, inp: list[trt.PluginTensorDesc], out: list[trt.PluginTensorDesc]
    ) -> None:
        """Compile or find the kernels, and plan the launches."""
        shapes = [_shape(tensor.dims) for tensor in inp]
        check_shapes(shapes)
        batch, heads, queries, head_dim = shapes[0]
        half = inp[0].type == trt.DataType.HALF
        self.kernels = kernels_here(Variant(head_dim, half, self.epsilon))
        self.problem = Problem(batch * heads, queries, shapes[1][2])
        self.schedule = self.kernels.schedule(self.problem)

    def enqueue(
        self,
        input_desc: list[trt.PluginTensorDesc],
        output_desc: list[trt.PluginTensorDesc],
        inputs: list[int],
        outputs: list[int],
        workspace: int,
        stream: int,
    ) -> None:
        """Put the kernels on TensorRT's stream."""
        assert self.kernels is not None
        assert self.problem is not None
        assert self.schedule is not None
        query, key, value = inputs
        addresses = Addresses(query, key, value, outputs[0], workspace)
        self.kernels.launch(self.problem, self.schedule, addresses, stream)

    def get_valid_tactics(self) -> list[int]:
        """One way to compute."""
        return []

    def set_tactic(self, tactic: int) -> None:
        """There is only the default one."""


class LinearAttentionCreator(trt.IPluginCreatorV3One):
    """Makes plugins for the ONNX parser and for engines that are read."""

    def __init__(self) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = OPERATOR, NAMESPACE, VERSION
        self.field_names = trt.PluginFieldCollection([_epsilon_field(EPSILON_DEFAULT)])

    def create_plugin(
        self, name: str, fc: trt.PluginFieldCollection, phase: trt.TensorRTPhase
    ) -> LinearAttentionPlugin:
        """A plugin with the node's attributes; raises ValueError for an epsilon that is none."""
        epsilon = EPSILON_DEFAULT
        for field in fc:
            if field.name == EPSILON_ATTRIBUTE:
                epsilon = float(np.asarray(field.data, np.float32).ravel()[0])
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise ValueError(f"{OPERATOR} {name}: epsilon is {epsilon}; it must be 0 or more")
        return LinearAttentionPlugin(float(f"{epsilon:.7g}"))


def check_shapes(shapes: list[tuple[int, ...]]) -> None:
    """Raise ValueError for tensors that are no query, key and value of linear attention."""
    if len(shapes) != INPUTS or any(len(shape) != 4 for shape in shapes):
        raise ValueError(f"{OPERATOR} needs query, key and value of 4 dimensions, not {shapes}")
    query, key, value = shapes
    if key != value or query[:2] != key[:2] or query[3] != key[3]:
        raise ValueError(
            f"{OPERATOR}: key and value (B, h, S, D), query (B, h, T, D), not {shapes}"
        )
    if not 1 <= query[3] <= MAX_HEAD_DIM:
        raise ValueError(f"{OPERATOR}: head dimension {query[3]}, at most {MAX_HEAD_DIM}")
    if query[0] * query[1] > MAX_HEADS:
        raise ValueError(f"{OPERATOR}: {query[0] * query[1]} heads in a batch, at most {MAX_HEADS}")


def register() -> None:
    """Make the plugin known to TensorRT in this process; a second call does nothing."""
    registry = trt.get_plugin_registry()
    if registry.get_creator(OPERATOR, VERSION, NAMESPACE) is None:
        registry.register_creator(LinearAttentionCreator(), NAMESPACE)
        log.debug("registered the TensorRT plugin %s::%s", NAMESPACE, OPERATOR)


def _shape(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(dims[axis] for axis in range(len(dims)))


def _epsilon_field(epsilon: float) -> trt.PluginField:
    data = np.array([epsilon], np.float32)
    return trt.PluginField(EPSILON_ATTRIBUTE, data, trt.PluginFieldType.FLOAT32)
