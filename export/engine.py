"""Model folder -> TensorRT engines, on the device that will run them.

    encoder.trt.onnx, or encoder.onnx  ->  strongly typed network  ->  encoder.engine + record

Precision lives in the graph, so one code path serves TensorRT 10.3 to 11.x: no flag asks for fp16
or int8, and TF32 is off, for an fp32 graph means fp32. An engine is built again when TensorRT, the
GPU, a graph or an option has changed. Bytes are written first and their record last, both beside
their names: what a broken build leaves is refused by the runtime.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from skyfix.runtime.encoder import SHIPPED_MODELS
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    BuildOptions,
    EngineRecord,
    Machine,
    engine_path,
    file_sha256,
    read_record,
    record_path,
)
from skyfix.runtime.engines.cuda import open_device
from skyfix.runtime.engines.tensors import (
    Tensor,
    patch_form,
    picture_form,
    refuse_foreign,
    shape_of,
)
from skyfix.runtime.engines.trt_library import (
    machine_here,
    new_logger,
    register_plugin,
    require_tensorrt,
    told,
)
from skyfix.runtime.errors import DeviceMemoryError, EngineError, InputError
from skyfix.runtime.files import write_beside, write_json

if TYPE_CHECKING:
    import tensorrt as trt

TRT_SUFFIX = ".trt.onnx"  # the graph for TensorRT, where it differs from onnxruntime's
PLUGINS = ("LinearAttention",)
OP_TYPE = 0x22  # protobuf: field 4 of NodeProto, a string
DIGEST_BYTES = 32
MIB = 1 << 20

log = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One engine to build."""

    graph: Path  # the card's
    source: Path  # what TensorRT reads
    record: EngineRecord  # as it will be, without the engine's hash and time
    card: ModelCard

    @property
    def batches(self) -> tuple[int, int, int]:
        """The profile: smallest, best and largest batch."""
        options = self.record.options
        return options.min_batch, options.best_batch, options.max_batch


def engines_from_model(
    folder: Path, options: BuildOptions, *, rebuild: bool = False, say: Say = log.info
) -> dict[str, EngineRecord]:
    """Build or keep the engine of every graph; file name to record.

    Raises InputError, EngineError, CudaError.
    """
    check_options(options)
    card = load_card(folder)
    if is_shipped(folder) or not os.access(folder, os.W_OK):
        why = "is shipped with skyfix and stays as it is" if is_shipped(folder) else "is read-only"
        raise InputError(
            f"{folder} {why}: an engine needs a folder of yours. Copy the model and build there: "
            f"cp -r {folder} my-{folder.name}; skyfix export engine my-{folder.name}"
        )
    device = open_device()  # before TensorRT, which crashes without a GPU
    require_tensorrt()
    machine = machine_here(device)
    say(f"TensorRT {machine.tensorrt}, {machine.gpu}, {device.memory()[0] // MIB} MiB free")
    records = {}
    for file in sorted(set(card.graphs.values())):
        job = job_of(folder / file, card, machine, options)
        name = engine_path(job.graph).name
        current = None if rebuild else current_record(job)
        if current is None:
            say(f"building {name} from {job.source.name}; this takes minutes")
            current = build(job)
            say(f"{name}: built in {current.build_s:.0f} s")
        else:
            say(f"{name}: up to date")
        records[file] = current
    return records


def is_shipped(folder: Path) -> bool:
    """Whether a model came with skyfix: an update replaces its folder, and others share it."""
    return folder.resolve().parent == SHIPPED_MODELS.resolve()


def check_options(options: BuildOptions) -> None:
    """Raise InputError for a profile that no batch fits into."""
    if not 1 <= options.min_batch <= options.best_batch <= options.max_batch:
        raise InputError(
            "--batch takes SMALLEST,BEST,LARGEST in this order, the smallest at least 1, "
            f"not {options.min_batch},{options.best_batch},{options.max_batch}"
        )
    if not 0 <= options.level <= 5:
        raise InputError(f"--level {options.level}: TensorRT has the levels 0 to 5")
    if options.workspace_mib < 1:
        raise InputError(f"--workspace {options.workspace_mib}: give at least 1 MiB")


def job_of(graph: Path, card: ModelCard, machine: Machine, options: BuildOptions) -> Job:
    """What to build for a graph: TensorRT's own variant of it where there is one."""
    variant = graph.with_name(graph.stem + TRT_SUFFIX)
    source = variant if variant.is_file() else graph
    graphs = {path.name: file_sha256(path) for path in (graph, source)}
    plugins = plugins_in(source.read_bytes()) if source == variant else []
    record = EngineRecord(
        schema=RECORD_SCHEMA, machine=machine, graphs=graphs, built_from=source.name,
        options=options, plugins=plugins, engine_sha256="", build_s=0.0,
    )  # fmt: skip
    return Job(graph, source, record, card)


def plugins_in(graph: bytes) -> list[str]:
    """Plugins of ours that the nodes of an ONNX file name, found without the onnx package."""
    return [name for name in PLUGINS if bytes([OP_TYPE, len(name)]) + name.encode() in graph]


def current_record(job: Job) -> EngineRecord | None:
    """The record of the engine that lies there, where this job would build the same."""
    try:
        record = read_record(engine_path(job.graph))
        digest = file_sha256(engine_path(job.graph))
    except (EngineError, OSError):
        return None
    wanted = msgspec.structs.replace(job.record, engine_sha256=digest, build_s=record.build_s)
    return record if record == wanted else None


def build(job: Job) -> EngineRecord:
    """Build, write and record one engine; raises EngineError with what TensorRT said."""
    for plugin in job.record.plugins:
        register_plugin(plugin)
    started_s = time.perf_counter()
    data = _built_bytes(job)
    record = msgspec.structs.replace(
        job.record,
        engine_sha256=hashlib.sha256(data).hexdigest(),
        build_s=round(time.perf_counter() - started_s, 1),
    )
    engine = engine_path(job.graph)
    record_path(engine).unlink(missing_ok=True)
    write_beside(engine, data)
    write_json(record_path(engine), record)
    return record


def _built_bytes(job: Job) -> bytes:
    import tensorrt as trt  # noqa: PLC0415  (comes with JetPack)

    errors: list[str] = []
    logger = new_logger(errors)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # "factory function returned nullptr"
        raise EngineError(f"TensorRT's builder does not start: {told(errors)}") from error
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED.value)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(job.source)):
        raise EngineError(f"TensorRT cannot read {job.source}: {_faults(parser)}")
    config = builder.create_builder_config()
    options = job.record.options
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = options.level
    profile = builder.create_optimization_profile()
    for tensor in _inputs(job, network):
        profile.set_shape(tensor.name, *((batch, *tensor.fixed()) for batch in job.batches))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"TensorRT does not take the batches of --batch: {told(errors)}")
    cache = timing_cache_path(job.record.machine)
    config.set_timing_cache(config.create_timing_cache(read_timings(cache)), ignore_mismatch=False)
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise _failure(job, errors)
    timings = config.get_timing_cache()
    if timings is not None:
        write_timings(cache, bytes(timings.serialize()))
    return bytes(data)


def _inputs(job: Job, network: "trt.INetworkDefinition") -> tuple[Tensor, ...]:
    """Patches, or pictures and their valid pixels; raises ModelError for a foreign graph."""
    ends = [network.get_input(index) for index in range(network.num_inputs)]
    ends += [network.get_output(index) for index in range(network.num_outputs)]
    found = [Tensor(end.name, end.dtype.name, shape_of(end.shape)) for end in ends]
    forms = (picture_form(job.card), patch_form(job.card))
    return refuse_foreign(str(job.source), found, *forms)[:-1]


def _faults(parser: "trt.OnnxParser") -> str:
    faults = [parser.get_error(index) for index in range(parser.num_errors)]
    return "; ".join(
        f"{fault.node_operator()} {fault.node_name()}: {fault.desc()}" for fault in faults
    )


def _failure(job: Job, errors: list[str]) -> EngineError | DeviceMemoryError:
    text = told(errors)
    if "memory" in text.lower():
        return DeviceMemoryError(
            f"the GPU's memory does not suffice to build {job.source.name}: {text}. End other "
            "programs, or give a smaller --workspace or --batch."
        )
    return EngineError(f"TensorRT cannot build {job.source.name}: {text}")


def timing_cache_path(machine: Machine) -> Path:
    """Timings of kernels, shared by all models of one TensorRT and one kind of GPU."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skyfix"
    major, minor = machine.compute_capability
    return root / f"timing-{machine.tensorrt}-sm{major}{minor}-{machine.gpu.replace(' ', '_')}.bin"


def read_timings(path: Path) -> bytes:
    """The timing cache's bytes; none where it is missing or not whole: TensorRT measures again."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, timings = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if hashlib.sha256(timings).digest() != digest:
        log.warning("%s is not whole; kernels are timed again", path)
        return b""
    return timings


def write_timings(path: Path, timings: bytes) -> None:
    """Keep a timing cache behind its own digest; a build does not fail for want of a cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, hashlib.sha256(timings).digest() + timings)
    except (OSError, InputError) as error:
        log.warning("the timing cache is not kept: %s", error)
