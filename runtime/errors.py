"""The one error tree. Every message says what was wrong and what to do next.

    SkyfixError
    |- InputError              an argument or a file given by the user
    |  |- CameraError          camera.yaml
    |  |- TelemetryError       flight.csv as a whole (a bad row is a status, not an exception)
    |  |- SourceError          frames that cannot be opened
    |  `- RasterError          a map image that cannot be used
    |- ModelError              a model folder: card, graphs, hashes
    |- PackError               a tile pack
    |  |- PackIntegrityError   truncated, altered or missing files
    |  `- PackModelError       made by another model
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


class ModelError(SkyfixError):
    """The model folder is incomplete, altered or of another schema."""


class PackError(SkyfixError):
    """The tile pack cannot be used."""


class PackIntegrityError(PackError):
    """A file of the pack is missing, truncated or altered."""


class PackModelError(PackError):
    """The pack was made by another model than the one that would search it."""


class PublishError(SkyfixError):
    """The ZeroMQ endpoint cannot be bound or connected."""


class MissingExtraError(SkyfixError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed. Install it with: pip install 'skyfix[{extra}]'"
        )
