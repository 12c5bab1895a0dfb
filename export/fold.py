"""A graph as the exporter leaves it -> the same function in fewer nodes.

    constants        whatever no input changes is computed here: the layer scale in the second
                     pointwise map of a ConvNeXt block, exactly; transposed weights; position codes
    shapes           Reshape(x, Shape(y)) -> Reshape(x, [-1, ...]) where only the batch is free
    Expand           left out in front of an operator that broadcasts anyway
    BatchNormalization   scale * x + shift, where no convolution has taken it up: there is no
                     running variance to underflow in fp16 then, and TensorRT before 10.7 takes no
                     mixed types there
    the rest         no Identity, no repeated expression, no dead node

Names of tensors stay: the calibration table and the comparison of layers go by them.
"""

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import common as passes
from onnxscript import optimizer

ANY_SIZE = 1 << 40  # elements; weights are constants however large they are
FOLDED_SIZE = 1 << 26  # elements: what a folded constant may grow to, 256 MB in fp32
BROADCASTING = {"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"}

Shapes = dict[str, list[int | str]]  # "batch" and the like where a side is free


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with constants folded and what does nothing left out; no functions."""
    graph = ir.from_proto(model)
    optimizer.optimize_ir(graph, input_size_limit=ANY_SIZE, output_size_limit=FOLDED_SIZE)
    changed = ir.to_proto(graph)
    _affine_norms(changed.graph)
    _fixed_shapes(changed.graph)
    _broadcast(changed.graph)
    graph = ir.from_proto(changed)
    ir.passes.Sequential(
        passes.CommonSubexpressionEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),  # names of source files, another one every time
    )(graph)
    return _bare(ir.to_proto(graph))


def shapes_of(graph: onnx.GraphProto) -> Shapes:
    """Shapes of the tensors whose every side is known, as a number or by name."""
    found: Shapes = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        sides = [side.dim_value or side.dim_param for side in info.type.tensor_type.shape.dim]
        if all(sides):
            found[info.name] = sides
    return found


def _affine_norms(graph: onnx.GraphProto) -> None:
    """Every BatchNormalization as a product and a sum, computed in float64 here."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shapes = shapes_of(graph)
    nodes = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        (x, *parameters), (y, *_) = node.input, node.output
        weight, bias, mean, variance = (
            numpy_helper.to_array(stored[name]).astype(np.float64) for name in parameters
        )
        epsilon = next(part.f for part in node.attribute if part.name == "epsilon")
        scale = weight / np.sqrt(variance + epsilon)
        sides = (-1, *(1 for _ in shapes[x][2:]))  # the channel is the second axis
        graph.initializer.extend([
            _constant(f"{y}_scale", scale.reshape(sides)),
            _constant(f"{y}_shift", (bias - scale * mean).reshape(sides)),
        ])  # fmt: skip
        nodes += [
            helper.make_node("Mul", [x, f"{y}_scale"], [f"{y}_scaled"], name=f"{node.name}_scale"),
            helper.make_node("Add", [f"{y}_scaled", f"{y}_shift"], [y], name=f"{node.name}_shift"),
        ]
    _replace_nodes(graph, nodes)


def _fixed_shapes(graph: onnx.GraphProto) -> None:
    """Constant targets for the Reshapes that have computed ones, where one side at most is free."""
    stored = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    shapes = shapes_of(graph)
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] in stored:
            continue
        source = makers.get(node.input[1])
        like = source.input[0] if source and source.op_type == "Shape" else node.output[0]
        sides = shapes.get(like, shapes.get(node.output[0]))
        if sides is None or sum(isinstance(side, str) for side in sides) > 1:
            continue
        target = np.array([-1 if isinstance(side, str) else side for side in sides], np.int64)
        graph.initializer.append(numpy_helper.from_array(target, f"reshape_{number}_shape"))
        node.input[1] = f"reshape_{number}_shape"


def _broadcast(graph: onnx.GraphProto) -> None:
    """Leave out an Expand to the very shape that its only reader's other operand has."""
    shapes = shapes_of(graph)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type != "Expand":
            continue
        wide = node.output[0]
        for reader in readers.get(wide, []):
            others = [name for name in reader.input if name != wide]
            same = [name for name in others if wide in shapes and shapes.get(name) == shapes[wide]]
            if reader.op_type in BROADCASTING and same:
                reader.input[list(reader.input).index(wide)] = node.input[0]


def _constant(name: str, value: NDArray[np.float64]) -> TensorProto:
    return numpy_helper.from_array(value.astype(np.float32), name)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the notes that remain, and with what is known of live tensors only."""
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    made = {name for node in model.graph.node for name in node.output}
    infos = [info for info in model.graph.value_info if info.name in made]
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
    return model
