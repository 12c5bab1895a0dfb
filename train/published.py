"""Published numbers, to stand beside the user's own; percent.

Sources: R the README of the system's repository, P its paper, L the leader list of
layumi/University1652-Baseline (July 2026), M the MFRGN paper, which cites the number. Numbers that
no primary source was found for are left out (SUES-200 as a whole, for one).
"""

from dataclasses import dataclass

Scores = dict[str, float]


@dataclass(frozen=True)
class Published:
    """What a system is reported to score on a test."""

    system: str
    scores: Scores
    source: str  # a letter of the list above, or a citation
    trained_on: str = ""  # another data set than the test's


def published_for(dataset: str, test: str) -> tuple[Published, ...]:
    """The rows of a test, best known systems first; none where nothing is known."""
    return PUBLISHED.get((dataset, test), ())


def _r1(system: str, recall: float, source: str, trained_on: str = "") -> Published:
    return Published(system, {"R@1": recall}, source, trained_on)


def _hit(system: str, recall: float, hit_rate: float, source: str) -> Published:
    return Published(system, {"R@1": recall, "hit rate": hit_rate}, source)


def _ap(system: str, recall: float, ap: float, source: str) -> Published:
    return Published(system, {"R@1": recall, "AP": ap}, source)


PUBLISHED: dict[tuple[str, str], tuple[Published, ...]] = {
    ("cvusa", "val"): (
        _r1("BEV", 98.71, "R"),
        _r1("Sample4Geo", 98.68, "R"),
        _r1("MFRGN+", 98.67, "P"),
        _r1("MFRGN", 98.24, "P"),
        _r1("GeoDTR+ (polar)", 95.40, "P"),
        _r1("GeoDTR+", 95.05, "P"),
        _r1("MFRGN+", 69.28, "P", "cvact"),
        _r1("GeoDTR+ (polar)", 53.89, "P", "cvact"),
        _r1("GeoDTR+", 52.56, "P", "cvact"),
        _r1("MFRGN", 49.18, "P", "cvact"),
        _r1("Sample4Geo", 44.95, "R", "cvact"),
    ),
    ("cvact", "val"): (
        _r1("BEV", 91.90, "R"),
        _r1("MFRGN+", 91.09, "P"),
        _r1("Sample4Geo", 90.81, "R"),
        _r1("FRGeo", 90.35, "R"),
        _r1("MFRGN", 88.78, "P"),
        _r1("GeoDTR+", 87.76, "P"),
        _r1("GeoDTR+ (polar)", 87.61, "P"),
        _r1("MFRGN+", 79.12, "P", "cvusa"),
        _r1("GeoDTR+ (polar)", 61.17, "P", "cvusa"),
        _r1("GeoDTR+", 60.16, "P", "cvusa"),
        _r1("Sample4Geo", 56.62, "R", "cvusa"),
        _r1("MFRGN", 51.61, "P", "cvusa"),
    ),
    ("cvact", "test"): (
        _r1("GeoDTR+", 67.75, "P"),
        _r1("GeoDTR+ (polar)", 67.57, "P"),
    ),
    ("vigor", "same area"): (
        _hit("MFRGN", 71.41, 80.59, "P"),
        _hit("Sample4Geo, no sampling", 65.23, 78.77, "M"),
        _hit("GeoDTR+", 59.01, 67.41, "P"),
    ),
    ("vigor", "cross area"): (
        _hit("MFRGN", 43.18, 47.54, "P"),
        _hit("Sample4Geo, no sampling", 36.38, 43.66, "M"),
        _hit("GeoDTR+", 36.01, 39.40, "P"),
    ),
    ("university1652", "drone->satellite"): (
        _ap("GeoBridge (more data)", 95.82, 97.77, "L"),
        _ap("DAC", 94.67, 95.50, "L"),
        _ap("CAMP", 94.46, 95.38, "L"),
        _ap("MFRGN", 94.33, 95.24, "R"),
        _ap("Sample4Geo", 92.65, 93.81, "R"),
        _ap("LPN", 75.93, 79.14, "L"),
        _ap("baseline, GeM", 65.32, 69.61, "R"),
        _ap("baseline", 58.23, 62.91, "R"),
    ),
    ("university1652", "satellite->drone"): (
        _ap("GeoBridge (more data)", 97.14, 95.05, "L"),
        _ap("DAC", 96.43, 93.79, "L"),
        _ap("CAMP", 96.15, 92.72, "L"),
        _ap("MFRGN", 96.15, 93.94, "R"),
        _ap("Sample4Geo", 95.14, 91.39, "R"),
        _ap("baseline, GeM", 79.03, 65.35, "R"),
        _ap("baseline", 74.47, 59.45, "R"),
    ),
    ("university1652", "street->satellite"): (
        _ap("PCLD", 9.15, 14.16, "R"),
        _ap("three views", 1.28, 2.29, "R"),
        _ap("three views, google", 1.20, 2.52, "R"),
        _ap("LPN", 0.81, 2.21, "R"),
    ),
    ("university1652", "street->satellite masked"): (
        Published("VICI + VLM", {"R@1": 30.21, "R@10": 63.13}, "arXiv 2507.04107"),
        Published(
            "three views, google", {"R@1": 1.12, "R@5": 3.33, "R@10": 5.47}, "CodaLab, 2025 report"
        ),
    ),
    ("denseuav", "drone->satellite"): (
        Published("baseline", {"R@1": 83.05, "SDM@1": 86.24}, "dmmm1997.github.io/DenseUAV"),
    ),
}
