"""What `skyfix evaluate` takes from a data set and from a checkpoint's record."""

from collections.abc import Sequence
from pathlib import Path

from skyfix.runtime.errors import InputError

from .checkpoint import CheckpointRecord
from .config import DatasetRun
from .data.images import Resize
from .data.sets import DataSet, TestSet
from .evaluate import VigorK, has_truth
from .models.config import University1652Config, architecture_name

# what each system's published test resizes with, where no configuration of the run says it
RESIZE: dict[str, Resize] = {
    "geodtr": "bilinear",
    "geodtr_plus": "bilinear",
    "university1652": "bicubic",
}


def options_from_words(words: Sequence[str]) -> dict[str, str | bool]:
    """KEY=VALUE words as options of a loader; raises InputError."""
    options: dict[str, str | bool] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            raise InputError(f"--option {word}: write it as KEY=VALUE, as area=cross")
        options[key] = value == "true" if value in {"true", "false"} else value
    return options


def chosen_tests(
    data: DataSet, names: Sequence[str], answer: Path | None, *, without_truth: bool
) -> tuple[TestSet, ...]:
    """The tests to describe; raises InputError where there is nothing to do or to choose."""
    there = ", ".join(repr(test.name) for test in data.tests) or "none"
    unknown = [name for name in names if name not in {test.name for test in data.tests}]
    if unknown or not data.tests:
        wanted = f" no test {unknown[0]!r}" if unknown else " no test"
        raise InputError(f"{data.name} has{wanted} here; there are: {there}")
    tests = tuple(test for test in data.tests if not names or test.name in names)
    if answer is not None:
        challenges = tests if names else tuple(test for test in tests if not has_truth(test))
        if len(challenges) != 1:
            raise InputError(f"--answer is for one test: name it with --test. There are: {there}")
        return challenges
    scored = tests if without_truth else tuple(test for test in tests if has_truth(test))
    if not scored:
        raise InputError(
            f"the truth of {tests[0].name!r} is not public: --answer FILE writes what the "
            "challenge takes"
        )
    return scored


def resize_of(record: CheckpointRecord) -> Resize:
    """The filter of the run, or of the published system."""
    if isinstance(record.run, DatasetRun):
        return record.run.data.resize
    return RESIZE.get(architecture_name(record.network), "area")


def flips(record: CheckpointRecord) -> bool:
    """Whether test features are summed with the mirror images'."""
    if isinstance(record.run, DatasetRun):
        return record.run.data.flip_test
    return isinstance(record.network, University1652Config)


def vigor_k_of(record: CheckpointRecord) -> VigorK:
    """R@1% on VIGOR as the network's own publication has it."""
    return "geodtr" if architecture_name(record.network).startswith("geodtr") else "sample4geo"
