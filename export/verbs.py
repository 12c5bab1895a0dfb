"""Verbs that the export folder adds to `skyfix`."""

from ..runtime.cli import Verb

VERBS = (
    Verb("export", "skyfix.export.cli:export_checkpoint", "Turn a checkpoint into a model."),
    Verb("export engine", "skyfix.export.device_cli:export_engine", "Build TensorRT engines here."),
    Verb("export verify", "skyfix.export.device_cli:export_verify", "Compare a model's engines."),
    Verb("demo", "skyfix.export.demo:demo", "Map, fly and localise a drawn land, in a minute."),
    Verb("map build", "skyfix.export.cli:map_build", "Turn a map image into a tile pack."),
    Verb("map info", "skyfix.export.cli:map_info", "Show what a tile pack holds."),
    Verb("map verify", "skyfix.export.cli:map_verify", "Check every byte of a tile pack."),
)
