"""What the training folder adds to `skyfix`."""

from skyfix.runtime.cli import Verb

VERBS = (
    Verb("train", "skyfix.train.cli:train_model", "Train a network on maps or a data set."),
    Verb(
        "checkpoint import",
        "skyfix.train.official_cli:import_official",
        "Turn published weights into a checkpoint.",
    ),
    Verb(
        "evaluate",
        "skyfix.train.evaluate_cli:evaluate_checkpoint",
        "Score a checkpoint by a data set's protocol.",
    ),
    Verb(
        "data check",
        "skyfix.train.data.check:check",
        "Say what of a data set is there, and what is missing.",
    ),
    Verb(
        "polar",
        "skyfix.train.data.polar:polar_folder",
        "Polar-transform a folder of aerial images.",
    ),
)
