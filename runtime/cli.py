"""The `skyfix` command: collects the verbs of all folders and imports only the one that is called.

    entry points "skyfix.verbs" -> VERBS of each folder -> the words typed -> one target imported

Exit codes: 0 done, 1 `demo` failed its own check, 2 a mistake in the call or in an input file, 3
any other error that skyfix raises on purpose, 4 `map coverage --require` is not met, 130 Ctrl-C.
"""

import importlib
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import typer

from .errors import InputError, MissingExtraError, SkyfixError

ENTRY_POINT_GROUP = "skyfix.verbs"
EXIT_INPUT = 2  # as for a mistake in the options
EXIT_FAILURE = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the convention of shells


@dataclass(frozen=True)
class Verb:
    """One command; `help` is its line in the list, its own page is the target's docstring."""

    name: str  # "replay", or "map build" for a verb inside a group
    target: str  # "package.module:function", imported when the verb is called
    help: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always leaves by SystemExit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app_from_verbs(installed_verbs(), words)(args=words, prog_name="skyfix")
    except SkyfixError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        extra = extra_of_package(error.name or "")
        if extra is None:
            raise
        _fail(MissingExtraError(str(error.name), extra))
    except KeyboardInterrupt:  # while modules are imported; later typer leaves with this code
        sys.exit(EXIT_INTERRUPTED)
    finally:
        _flush_quietly()


def installed_verbs() -> tuple[Verb, ...]:
    """The verbs of every folder that is installed, by name."""
    verbs: dict[str, Verb] = {}
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        verbs.update({verb.name: verb for verb in _verbs_of(entry)})
    return tuple(sorted(verbs.values(), key=lambda verb: verb.name))


def app_from_verbs(verbs: Sequence[Verb], words: Sequence[str]) -> typer.Typer:
    """The command tree, with the target of the verb in `words` imported and no other."""
    app = _group("Position fixes for drones without GNSS, from a camera and a satellite map.")
    app.callback()(_global_options)
    called = verb_from_words(verbs, words)
    names = {verb.name for verb in verbs}
    groups: dict[str, typer.Typer] = {}
    for verb in verbs:
        *path, name = verb.name.split()
        parent = app
        if called and called.name.startswith(f"{verb.name} "):
            continue  # `export engine` is called: its group takes the place of `export`
        if path and path[0] in names and verb is not called:
            name = verb.name  # only for the list of verbs
        elif path:
            parent = groups.setdefault(path[0], _group(_group_help(verbs, path[0])))
        function = _load(verb) if verb is called else _not_called
        help_text = _help_page(function) if verb is called else None
        parent.command(name, help=help_text or verb.help)(function)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def verb_from_words(verbs: Sequence[Verb], words: Sequence[str]) -> Verb | None:
    """The verb that the command line names: global options are flags, so words come first."""
    plain = [word for word in words if not word.startswith("-")]
    parts = {verb: verb.name.split() for verb in verbs}
    named = [verb for verb in verbs if plain[: len(parts[verb])] == parts[verb]]
    return max(named, key=lambda verb: len(parts[verb]), default=None)  # `export engine` first


def extra_of_package(package: str) -> str | None:
    """The first extra of skyfix that installs a package, None for a package of no extra."""
    top = re.escape(package.partition(".")[0])
    for requirement in metadata.requires("skyfix") or []:
        found = re.match(rf"{top}(?![\w.\[-]).*extra == [\"'](\w+)[\"']", requirement)
        if found:
            return found[1]
    return None


def _verbs_of(entry: metadata.EntryPoint) -> tuple[Verb, ...]:
    """The verbs of one folder; none where it is not there, as an aircraft may carry the runtime."""
    try:
        verbs: tuple[Verb, ...] = entry.load()
    except ModuleNotFoundError as error:
        if entry.module.startswith(str(error.name)):
            return ()
        raise
    return verbs


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain pages: brackets stay literal, and rich is not imported
    )


def _group_help(verbs: Iterable[Verb], group: str) -> str:
    names = [verb.name.split()[1] for verb in verbs if verb.name.startswith(f"{group} ")]
    return f"Verbs: {', '.join(names)}."


def _load(verb: Verb) -> Callable[..., None]:
    module, _, name = verb.target.partition(":")
    function: Callable[..., None] = getattr(importlib.import_module(module), name)
    return function


def _not_called() -> None:
    """Hold the place of a verb whose module is not imported."""


def _help_page(function: Callable[..., None]) -> str:
    r"""The docstring, with its indented paragraphs (examples) kept as they are typed.

    The help page re-wraps a paragraph unless it begins with the character \b.
    """
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join("\b\n" + text if "\n    " in text else text for text in paragraphs)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skyfix {metadata.version('skyfix')}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens to stderr.")
    ] = False,
) -> None:
    del version  # handled by its callback
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(name)s: %(message)s" if verbose else "%(levelname)s: %(message)s",
    )


def _fail(error: SkyfixError) -> None:
    """One line on stderr and the exit code of the error's branch of the tree."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILURE)


def _flush_quietly() -> None:
    """Let a reader that has gone (`skyfix listen | head`) end the output without a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
