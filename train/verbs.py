"""What the training folder adds to `skyfix`."""

from skyfix.runtime.cli import Verb

VERBS = (Verb("train", "skyfix.train.cli:train_model", "Train a network on map imagery."),)
