"""The one error tree. Every message says what was wrong and what to do next.

    SkyfixError
    |- InputError              an argument or a file given by the user
    |  |- CameraError          camera.yaml
    |  |- TelemetryError       flight.csv as a whole (a bad row is a status, not an exception)
    |  |- SourceError          frames that cannot be opened
    |  |- RasterError          a map image that cannot be used
    |  `- BrokenImageError     an image of a data set that cannot be decoded
    |- ModelError              a model folder: card, graphs, hashes
    |- PackError               a tile pack
    |  |- PackIntegrityError   truncated, altered or missing files
    |  `- PackModelError       made by another model
    |- EngineError             an engine that is missing, of another machine, or not to be trusted
    |- CudaError               the GPU or its driver
    |  `- DeviceMemoryError    not enough memory on the GPU
    |- PublishError            the ZeroMQ endpoint
    `- MissingExtraError       an optional dependency that is not installed

Faults of single frames are no exceptions: they are a `Reason` (see types.py).
"""


class SkyfixError(Exception):
    """Base of all errors that skyfix raises on purpose."""


class InputError(SkyfixError):
    """An argument or a file given by the user cannot be used."""


class CameraError(InputError):
    """The camera file is missing, incomplete or impossible."""


class TelemetryError(InputError):
    """The telemetry file as a whole cannot be read."""


class SourceError(InputError):
    """The frames cannot be opened."""


class RasterError(InputError):
    """The map image cannot be used."""


class BrokenImageError(InputError):
    """An image of a data set cannot be decoded; the message names its file."""


class ModelError(SkyfixError):
    """The model folder is incomplete, altered or of another schema."""


class PackError(SkyfixError):
    """The tile pack cannot be used."""


class PackIntegrityError(PackError):
    """A file of the pack is missing, truncated or altered."""


class PackModelError(PackError):
    """The pack was made by another model than the one that would search it."""


class EngineError(SkyfixError):
    """The engine is missing, truncated, of another machine or graph, or failed its check."""


class CudaError(SkyfixError):
    """The GPU or its driver is missing, too old, or has failed."""


class DeviceMemoryError(CudaError):
    """The GPU has not enough memory left."""


class PublishError(SkyfixError):
    """The ZeroMQ endpoint cannot be bound or connected."""


class MissingExtraError(SkyfixError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed. Install it with: pip install 'skyfix[{extra}]'"
        )
