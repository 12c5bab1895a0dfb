"""Files that are whole or not there: written beside their name, then renamed."""

from pathlib import Path

import msgspec

from .errors import InputError


def write_beside(path: Path, data: bytes) -> None:
    """Bytes into a file; where the disk refuses the old file stays. Raises InputError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror})") from error


def json_from_record(record: msgspec.Struct) -> bytes:
    """A record as JSON that people can read too."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def write_json(path: Path, record: msgspec.Struct) -> None:
    """A record into a file; raises InputError."""
    write_beside(path, json_from_record(record))
