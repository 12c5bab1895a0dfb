"""Verbs that the calibration folder adds to `skyfix`."""

from ..runtime.cli import Verb

VERBS = (
    Verb("calibrate", "skyfix.calibration.cli:calibrate", "Measure the ranges of int8 layers."),
)
