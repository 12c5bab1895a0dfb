"""What a GPU makes of an fp16 graph, computed on a CPU.

onnxruntime has few fp16 kernels for CPUs: it computes most of an fp16 graph in fp32 and drops the
casts between, so that neither rounding nor overflow shows. Here every tensor that is fp16 is made
by an fp32 node and then rounded to fp16, as a tensor core with fp32 sums does it; what leaves the
range of fp16 becomes infinite.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .operators import element_types

FULL, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


def rounded(half: onnx.ModelProto) -> onnx.ModelProto:
    """The fp16 graph in fp32 nodes whose results are rounded; run it without optimisations."""
    kinds = element_types(half)
    changed = onnx.ModelProto()
    changed.CopyFrom(half)
    graph = changed.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Cast":
            _set_full(node)
        for index, name in enumerate(node.output):
            if kinds.get(name) == HALF:
                exact, half_name = f"{name}_exact", f"{name}_rounded"
                node.output[index] = exact
                nodes += [
                    helper.make_node("Cast", [exact], [half_name], to=HALF),
                    helper.make_node("Cast", [half_name], [name], to=FULL),
                ]
    constants = [_full(tensor) for tensor in graph.initializer]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(copies)
    graph.initializer.extend(constants)
    return changed


def _set_full(node: onnx.NodeProto) -> None:
    for part in node.attribute:
        if part.name == "to" and part.i == HALF:
            part.i = FULL


def _full(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != HALF:
        return tensor
    value = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(value, tensor.name)
