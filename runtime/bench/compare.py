"""This run against a stored one: the same work by another model, engine or machine.

Other work is refused with what differs. What did the work may differ, that is the question; it is
listed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ..errors import InputError
from .record import END_TO_END, Record, Workload
from .samples import Ratio, present, ratio_of
from .verdicts import verdicts_of

PERCENTS = (50.0, 95.0, 99.0)  # of end to end
STAGE_PERCENT = 50.0

Samples = Sequence[float | None]


class Line(msgspec.Struct, frozen=True):
    """One percentile of one stage in both runs."""

    stage: str
    percent: float
    stored_ms: float
    now_ms: float
    ratio: Ratio


@dataclass(frozen=True)
class Comparison:
    """Two runs of one workload."""

    differences: tuple[str, ...]  # of what did the work
    doubts: tuple[str, ...]  # what makes either run's numbers doubtful, and so every ratio
    lines: tuple[Line, ...]


def compare(now: Record, stored: Record) -> Comparison:
    """Ratios now over stored; raises InputError for other work."""
    refuse_other_work(now.workload, stored.workload)
    who = [*differences(now.subject, stored.subject), *differences(now.machine, stored.machine)]
    doubts = [f"the stored run: {verdict}" for verdict in verdicts_of(stored)]
    return Comparison(tuple(who), (*doubts, *verdicts_of(now)), tuple(_lines(now, stored)))


def refuse_other_work(now: Workload, stored: Workload) -> None:
    """Raise InputError where the stored run did not do the same."""
    other = differences(now, stored)
    if other:
        raise InputError(
            f"the stored run did other work ({'; '.join(other)}), so no ratio means anything. "
            "Run both with the same map, --pack and --frames, and models of the same input."
        )


def differences(now: msgspec.Struct, stored: msgspec.Struct) -> list[str]:
    """Fields that are not equal, stored -> now."""
    found = []
    for name in now.__struct_fields__:
        mine, theirs = getattr(now, name), getattr(stored, name)
        if isinstance(mine, dict):
            found += [
                f"{key} {theirs.get(key, 'none')} -> {mine.get(key, 'none')}"
                for key in sorted(mine.keys() | theirs.keys())
                if mine.get(key) != theirs.get(key)
            ]
        elif mine != theirs:
            found.append(f"{name} {theirs or 'none'} -> {mine or 'none'}")
    return found


def _lines(now: Record, stored: Record) -> Iterator[Line]:
    mine, theirs = ({**run.path_ms, **run.engine_ms, **run.apart_ms} for run in (now, stored))
    for name, samples in mine.items():
        yield from _line(name, STAGE_PERCENT, samples, theirs.get(name, []))
    for percent in PERCENTS:
        yield from _line(END_TO_END, percent, now.end_to_end_ms, stored.end_to_end_ms)


def _line(name: str, percent: float, now_ms: Samples, stored_ms: Samples) -> Iterator[Line]:
    ratio = ratio_of(now_ms, stored_ms, percent)
    if ratio is not None:
        stored, now = (
            float(np.percentile(present(samples), percent)) for samples in (stored_ms, now_ms)
        )
        yield Line(name, percent, stored, now, ratio)
