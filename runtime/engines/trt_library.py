"""TensorRT's Python module: where it comes from, its log, the plugins of ours that it needs.

TensorRT comes with JetPack and is imported in functions only. It must not be asked for a Runtime or
a Builder without a GPU: open_device() comes first and says so in words.
"""

import logging
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import EngineError
from .built import Machine
from .cuda import Device

if TYPE_CHECKING:
    import tensorrt as trt

PLUGIN_GROUP = "skyfix.tensorrt_plugins"  # entry points: name of the ONNX node -> register()
MIN_VERSION = (10, 3)

log = logging.getLogger(__name__)


def require_tensorrt() -> None:
    """Raise EngineError where TensorRT's Python module is missing or too old."""
    if find_spec("tensorrt") is None:
        raise EngineError(
            "TensorRT's Python module is not installed. On a Jetson it comes with JetPack: "
            "sudo apt install python3-libnvinfer, and a virtual environment made with "
            "--system-site-packages. Elsewhere: pip install tensorrt."
        )
    try:
        import tensorrt as trt  # noqa: PLC0415  (comes with JetPack; only this engine needs it)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"TensorRT's Python module cannot be loaded: {error}. Module and library must be of "
            "one version; install both from JetPack."
        ) from error
    if version_of(trt.__version__) < MIN_VERSION:
        raise EngineError(
            f"TensorRT {trt.__version__} is too old, skyfix needs 10.3 (JetPack 6.1). "
            "Update JetPack, or take another engine, such as --engine onnx."
        )


def version_of(text: str) -> tuple[int, int]:
    """Major and minor of "10.3.0.26"."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def machine_here(device: Device) -> Machine:
    """What an engine that runs here must have been built on."""
    import tensorrt as trt  # noqa: PLC0415  (as above: JetPack's, and only here)

    return Machine(trt.__version__, device.name, device.compute_capability)


def new_logger(errors: list[str]) -> "trt.ILogger":
    """TensorRT's messages into Python's log; errors are kept for the exception that follows."""
    import tensorrt as trt  # noqa: PLC0415  (as above: JetPack's, and only here)

    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.INFO,  # tuning hints, dozens in every build
    }

    class Log(trt.ILogger):
        """Forwards every message."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants it by name

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            """Called by the library, from any of its threads."""
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                errors.append(msg)
            log.log(level, "TensorRT: %s", msg)

    return Log()


def told(errors: list[str]) -> str:
    """The last errors of the library, for a sentence."""
    return " | ".join(errors[-3:]) or "it gave no reason"


def register_plugin(name: str) -> None:
    """Make a plugin of ours known to TensorRT; raises EngineError where it is not installed."""
    entries = {entry.name: entry for entry in metadata.entry_points(group=PLUGIN_GROUP)}
    if name not in entries:
        raise EngineError(
            f"the engine needs the TensorRT plugin {name}, which is not installed. Install all of "
            "skyfix on this device, or export the model without it (--no-plugin)."
        )
    entries[name].load()()
