"""Linear attention as one node of our own domain, and what that node means in standard operators.

    mixed = phi(q) (phi(k)^T v) / (phi(q) . sum phi(k) + epsilon)        phi(x) = elu(x) + 1

The network (train/models/linear_attention.py) divides both sums by the number of source tokens,
which leaves the quotient as it is. The node's sums are fp32 whatever goes in and out, so that they
need no such care; the plugin (export/plugins/linear_attention) computes the same.

The two files of a graph differ in this node alone:

    encoder.onnx       with the function body below: onnxruntime runs it unmodified
    encoder.trt.onnx   without it, for up to TensorRT 10.6 a body hides the plugin of the same
                       name; or, without the plugin, with the body in the node's place
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import helper, inliner, parser
from onnx.defs import OpSchema
from onnxscript import values
from torch import nn

from skyfix.train.models.linear_attention import EPSILON, CrossLayer, linear_attention

from .operators import element_types, opset_of
from .plugins.linear_attention.node import EPSILON_ATTRIBUTE, NAMESPACE, OPERATOR, VERSION

DOMAIN = NAMESPACE
DOMAIN_VERSION = 1
TENSORS = ["tensor(float)", "tensor(float16)"]
BODY = """<domain: "{domain}", opset_import: ["": {opset}]>
{operator} <{epsilon}: float = 1e-6> (query, key, value) => (mixed)
{{
    one = Constant <value_float = 1.0> ()
    tokens = Constant <value_ints = [2]> ()
    channels = Constant <value_ints = [3]> ()
    small = Constant <value_float: float = @{epsilon}> ()
    query_full = Cast <to = 1> (query)
    key_full = Cast <to = 1> (key)
    value_full = Cast <to = 1> (value)
    query_elu = Elu (query_full)
    query_phi = Add (query_elu, one)
    key_elu = Elu (key_full)
    key_phi = Add (key_elu, one)
    key_turned = Transpose <perm = [0, 1, 3, 2]> (key_phi)
    outer = MatMul (key_turned, value_full)
    total = ReduceSum <keepdims = 1> (key_phi, tokens)
    shares = Mul (query_phi, total)
    share = ReduceSum <keepdims = 1> (shares, channels)
    divisor = Add (share, small)
    weighed = MatMul (query_phi, outer)
    mixed_full = Div (weighed, divisor)
    mixed = CastLike (mixed_full, query)
}}"""


@torch.library.custom_op("skyfix::linear_attention", mutates_args=())
def attention_op(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The network's attention as one operator that the exporter does not look into."""
    return linear_attention(query, key, value)


@attention_op.register_fake
def _(query: torch.Tensor, *_source: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(query)


@contextmanager
def attention_as_nodes(network: nn.Module) -> Iterator[None]:
    """Let the layers of a network compute their attention by the operator for a while."""
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, CrossLayer) and layer.attention is linear_attention
    ]
    for layer in layers:
        layer.attention = attention_op
    try:
        yield
    finally:
        for layer in layers:
            layer.attention = linear_attention


def translations() -> dict[Callable[..., object], Callable[..., object]]:
    """The exporter's table: our operator becomes our node."""
    if not onnx.defs.has(OPERATOR, DOMAIN):
        onnx.defs.register_schema(_schema())
    operators = values.Opset(DOMAIN, DOMAIN_VERSION)

    def node(query: object, key: object, value: object) -> object:
        return getattr(operators, OPERATOR)(
            query, key, value, **{EPSILON_ATTRIBUTE: EPSILON},
            plugin_namespace=NAMESPACE, plugin_version=VERSION,
        )  # fmt: skip

    return {torch.ops.skyfix.linear_attention.default: node}


def attention_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The linear attentions of a graph, one a layer."""
    return [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, OPERATOR)]


def with_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the function that onnxruntime runs in the node's place."""
    changed = without_bodies(model)
    if attention_nodes(changed):
        text = BODY.format(
            domain=DOMAIN, operator=OPERATOR, epsilon=EPSILON_ATTRIBUTE, opset=opset_of(model)
        )
        changed.functions.append(parser.parse_function(text))
    return changed


def without_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph whose attention is the plugin's."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.functions[:]
    return changed


def _as_cast(like: onnx.NodeProto, types: dict[str, int]) -> onnx.NodeProto:
    """A cast to the type that a CastLike takes from its second input."""
    wanted = types[like.input[1]]
    return helper.make_node("Cast", like.input[:1], like.output, name=like.name, to=wanted)


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the body's operators in the place of every node, and no cast to the same type.

    Which type CastLike means is known here; it is written as a Cast.
    """
    if not model.functions:
        return model
    changed = inliner.inline_local_functions(model)
    types = element_types(changed)
    same: dict[str, str] = {}  # a cast that changes nothing -> what it casts
    nodes = []
    for written in changed.graph.node:
        for index, name in enumerate(written.input):
            written.input[index] = same.get(name, name)
        node = _as_cast(written, types) if written.op_type == "CastLike" else written
        if node.op_type == "Cast" and node.output[0] not in _ends(changed):
            wanted = next(part.i for part in node.attribute if part.name == "to")
            if types[node.input[0]] == wanted:
                same[node.output[0]] = node.input[0]
                continue
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    return changed


def _ends(model: onnx.ModelProto) -> set[str]:
    return {output.name for output in model.graph.output}


def _schema() -> OpSchema:
    tensor = OpSchema.FormalParameter
    attribute = OpSchema.Attribute
    text = OpSchema.AttrType.STRING
    return OpSchema(
        OPERATOR,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=[tensor(name, "T") for name in ("query", "key", "value")],
        outputs=[tensor("mixed", "T")],
        type_constraints=[("T", TENSORS, "what TensorRT computes in")],
        attributes=[
            attribute(EPSILON_ATTRIBUTE, OpSchema.AttrType.FLOAT, required=False),
            attribute("plugin_namespace", text, required=False),
            attribute("plugin_version", text, required=False),
        ],
    )
