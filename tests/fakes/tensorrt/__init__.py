"""TensorRT's manners without TensorRT, on the driver of ../libcuda.c.

An engine holds its graph, and onnxruntime computes it where the driver's stream comes to it. Bytes
that are no engine fail an assertion, where the real library crashes; FAKE_TENSORRT_FAIL names a
step that fails as the real one does, or `numbers`, where it computes something else in silence.
"""

import base64
import ctypes
import json
import os
from enum import Enum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no stubs
from numpy.typing import NDArray

from skyfix.runtime.engines import cuda_driver

__version__ = "10.3.0"

Shape = tuple[int, ...]


def fails(step: str) -> bool:
    return os.environ.get("FAKE_TENSORRT_FAIL") == step


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    UINT8 = 5


TYPES: dict[int, DataType] = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.UINT8: DataType.UINT8,
}
NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.UINT8: np.uint8}


class BuilderFlag(Enum):
    TF32 = 7


class NetworkDefinitionCreationFlag(Enum):
    STRONGLY_TYPED = 1


class MemoryPoolType(Enum):
    WORKSPACE = 0


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"timing "


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Shape]] = {}

    def set_shape(self, name: str, smallest: Shape, best: Shape, largest: Shape) -> None:
        assert smallest <= best <= largest
        self.shapes[name] = [tuple(smallest), tuple(largest)]


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.dtype = TYPES[value.type.tensor_type.elem_type]
        sides = value.type.tensor_type.shape.dim
        self.shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)


class Network:
    graph: onnx.ModelProto

    @property
    def num_inputs(self) -> int:
        return len(self.graph.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self.graph.graph.output)

    def get_input(self, index: int) -> Tensor:
        return Tensor(self.graph.graph.input[index])

    def get_output(self, index: int) -> Tensor:
        return Tensor(self.graph.graph.output[index])


class Config:
    builder_optimization_level = 3
    cache: TimingCache
    profile: Profile

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profile = profile
        return 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        assert flag is BuilderFlag.TF32

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE
        assert size >= 1 << 20

    def create_timing_cache(self, data: bytes) -> TimingCache:
        return TimingCache(data)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        if fails("builder"):
            raise TypeError("factory function returned nullptr")
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << 1
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        for step, message in (
            ("memory", "Requested amount of GPU memory could not be allocated"),
            ("build", "could not find any implementation for node pool"),
        ):
            if fails(step):
                self.logger.log(ILogger.Severity.ERROR, message)
                return None
        assert set(config.profile.shapes) == {tensor.name for tensor in network.graph.graph.input}
        graph = base64.b64encode(network.graph.SerializeToString()).decode()
        return json.dumps({"profile": config.profile.shapes, "graph": graph}).encode()


class ParserError:
    def __init__(self, text: str) -> None:
        self.text = text

    def node_operator(self) -> str:
        return "Mystery"

    def node_name(self) -> str:
        return "node_7"

    def desc(self) -> str:
        return self.text


class OnnxParser:
    num_errors = 1

    def __init__(self, network: Network, logger: ILogger) -> None:
        del logger
        self.network = network
        self.error = ParserError("no importer registered")

    def parse_from_file(self, path: str) -> bool:
        try:
            graph = onnx.load_from_string(Path(path).read_bytes())
            self.network.graph = onnx.shape_inference.infer_shapes(graph)
        except DecodeError:
            self.error = ParserError("Failed to parse ONNX model from file")
            return False
        return not fails("parse")

    def get_error(self, index: int) -> ParserError:
        assert index == 0
        return self.error


class Context:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, Shape] = {}
        self.callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.compute)

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        smallest, largest = self.engine.plan["profile"][name]
        self.shapes[name] = tuple(shape)
        return all(
            low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True)
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if fails("run"):
            return False
        driver = ctypes.CDLL(cuda_driver.LIBRARY)
        return bool(driver.cuLaunchHostFunc(ctypes.c_void_p(stream), self.callback, None) == 0)

    def compute(self, _nothing: object) -> None:
        """What the GPU would do when the stream comes to it."""
        inputs = {name: self.at(name, shape) for name, shape in self.shapes.items()}
        ((name, found),) = self.engine.run(inputs).items()
        self.at(name, found.shape)[:] = found[:, ::-1] if fails("numbers") else found

    def at(self, name: str, shape: Shape) -> NDArray[Any]:
        dtype = np.dtype(NUMPY[self.engine.get_tensor_dtype(name)])
        memory = (ctypes.c_byte * (prod(shape) * dtype.itemsize)).from_address(self.addresses[name])
        array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        return array


class Engine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        graph = base64.b64decode(plan["graph"])
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        parsed = onnx.load_from_string(graph).graph
        self.tensors = [Tensor(value) for value in (*parsed.input, *parsed.output)]
        self.num_io_tensors = len(self.tensors)

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_dtype(self, name: str) -> DataType:
        if name == "descriptor" and fails("half"):
            return DataType.HALF
        return self.named(name).dtype

    def get_tensor_shape(self, name: str) -> Shape:
        return self.named(name).shape

    def named(self, name: str) -> Tensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def create_execution_context(self) -> Context | None:
        return None if fails("context") else Context(self)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        assert data.endswith(b"}"), "the real library crashes on such bytes"
        if fails("deserialize"):
            self.logger.log(ILogger.Severity.ERROR, "version tag does not match")
            return None
        return Engine(json.loads(data))
