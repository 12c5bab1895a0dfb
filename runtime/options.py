"""Options that several verbs have in common."""

from typing import Annotated

import typer

from .engines.choose import AUTO, ENGINES

DEFAULT_MODEL = "nano"

ModelOption = Annotated[str, typer.Option(help="Name of a shipped model, or a model folder.")]
EngineOption = Annotated[
    str, typer.Option(help=f"What runs the model: {', '.join((AUTO, *ENGINES))}.")
]
