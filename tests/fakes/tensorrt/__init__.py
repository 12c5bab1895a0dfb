"""TensorRT's manners without TensorRT, on the driver of ../libcuda.c.

An engine doubles the first numbers of each patch. Bytes that are no engine fail an assertion, where
the real library crashes; FAKE_TENSORRT_FAIL names a step that fails as the real one does.
"""

import ctypes
import json
import os
from enum import Enum
from pathlib import Path
from typing import Any

from skyfix.runtime.engines.cuda import open_device

__version__ = "10.3.0"
DIMENSION = 3 * 8 * 8  # of the tiny model
FLOAT_BYTES = 4

Shape = tuple[int, ...]


def fails(step: str) -> bool:
    return os.environ.get("FAKE_TENSORRT_FAIL") == step


class DataType(Enum):
    FLOAT = 0
    HALF = 1


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
    def set_shape(self, name: str, smallest: Shape, best: Shape, largest: Shape) -> None:
        assert name == "patch"
        assert smallest <= best <= largest
        self.smallest, self.largest = smallest, largest


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

    def create_network(self, flags: int) -> object:
        assert flags == 1 << 1
        return object()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: object, config: Config) -> bytes | None:
        assert network is not None
        for step, message in (
            ("memory", "Requested amount of GPU memory could not be allocated"),
            ("build", "could not find any implementation for node pool"),
        ):
            if fails(step):
                self.logger.log(ILogger.Severity.ERROR, message)
                return None
        profile = config.profile
        plan = {"smallest": profile.smallest, "largest": profile.largest}
        return json.dumps(plan).encode()


class ParserError:
    def node_operator(self) -> str:
        return "Mystery"

    def node_name(self) -> str:
        return "node_7"

    def desc(self) -> str:
        return "no importer registered"


class OnnxParser:
    num_errors = 1

    def __init__(self, network: object, logger: ILogger) -> None:
        pass

    def parse_from_file(self, path: str) -> bool:
        return Path(path).is_file() and not fails("parse")

    def get_error(self, index: int) -> ParserError:
        assert index == 0
        return ParserError()


class Context:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.addresses: dict[str, int] = {}
        device = open_device()
        self.function = device.module(b".version 8.0").function("scale")
        self.driver = device.driver

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        assert name == "patch"
        self.shape = shape
        return bool(self.plan["smallest"][0] <= shape[0] <= self.plan["largest"][0])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if fails("run"):
            return False
        batch, channels, height, width = self.shape
        stride = channels * height * width * FLOAT_BYTES
        source, target = self.addresses["patch"], self.addresses["descriptor"]
        size = DIMENSION * FLOAT_BYTES
        for index in range(batch):
            self.driver.call(
                "cuMemcpyDtoDAsync", target + index * size, source + index * stride, size, stream
            )
        count = batch * DIMENSION
        arguments = (ctypes.c_void_p(target), ctypes.c_int(count), ctypes.c_float(2.0))
        self.function.launch((1, 1, 1), (count, 1, 1), stream, arguments)
        return True


class Engine:
    num_io_tensors = 2

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan

    def get_tensor_name(self, index: int) -> str:
        return ("patch", "descriptor")[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        assert name in {"patch", "descriptor"}
        return DataType.HALF if fails("half") else DataType.FLOAT

    def get_tensor_shape(self, name: str) -> Shape:
        assert name == "descriptor"
        return (-1, DIMENSION)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Shape]:
        assert (name, profile) == ("patch", 0)
        return [tuple(self.plan["smallest"]), (), tuple(self.plan["largest"])]

    def create_execution_context(self) -> Context | None:
        return None if fails("context") else Context(self.plan)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        assert data.endswith(b"}"), "the real library crashes on such bytes"
        if fails("deserialize"):
            self.logger.log(ILogger.Severity.ERROR, "version tag does not match")
            return None
        return Engine(json.loads(data))
