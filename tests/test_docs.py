"""What the documents tell the reader to type is there: verbs, their options, files linked to."""

import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from skyfix.runtime.cli import Verb, verb_from_words

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
GLOBAL_OPTIONS = {"--help", "--version", "--verbose", "-v"}


@cache
def verbs() -> tuple[Verb, ...]:
    """Of every folder that pyproject.toml names, installed or not."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split('[project.entry-points."skyfix.verbs"]')[1].split("\n[")[0]
    modules = re.findall(r'= "([\w.]+):VERBS"', block)
    return tuple(verb for name in modules for verb in importlib.import_module(name).VERBS)


def commands(text: str) -> Iterator[str]:
    """Every `skyfix ...` of a document: lines of its code blocks, and code within sentences."""
    joined = re.sub(r"\\\n\s*", " ", text)
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", joined, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4}\S.*$", joined, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", joined, flags=re.DOTALL | re.MULTILINE)
    quoted = [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose)]
    lines = [line for block in fenced for line in block.splitlines()]
    for line in (*lines, *indented, *quoted):
        for part in re.split(r"&&|;|\s\|\s", line.split(" #")[0]):
            if part.strip().startswith("skyfix "):
                yield part.strip()


def faults(command: str) -> list[str]:
    """What of a command does not exist."""
    words = [word.strip("[]") for word in shlex.split(command)[1:]]
    verb = verb_from_words(verbs(), words)
    if verb is None:
        return [] if set(words) <= GLOBAL_OPTIONS else [f"no verb in: {command}"]
    known = options_of(verb) | GLOBAL_OPTIONS
    used = [word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)]
    return [f"{verb.name} has no {option}: {command}" for option in used if option not in known]


@cache
def options_of(verb: Verb) -> frozenset[str]:
    module, _, name = verb.target.partition(":")
    app = typer.Typer(add_completion=False)
    app.command()(getattr(importlib.import_module(module), name))
    parameters = typer.main.get_command(app).params
    return frozenset(option for one in parameters for option in (*one.opts, *one.secondary_opts))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_names_a_verb_and_options_that_exist(path: Path) -> None:
    found = list(commands(path.read_text(encoding="utf-8")))
    assert [fault for command in found for fault in faults(command)] == []


def test_the_documents_have_commands_to_check() -> None:
    found = {path.name: len(list(commands(path.read_text("utf-8")))) for path in DOCUMENTS}
    assert found["README.md"] >= 5
    assert found["jetson.md"] >= 10


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```\nskyfix fly now\n```", "no verb"),
        ("Type `skyfix replay\n--wings 2`.", "replay has no --wings"),
        ("```\nskyfix map build a.tif \\\n    -o b.pack --paint red\n```", "build has no --paint"),
        ("```\ncd x && skyfix export engine m --fp16  # fast\n```", "engine has no --fp16"),
        ("    skyfix export verify m --engin onnx", "verify has no --engin:"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, fault: str) -> None:
    (found,) = [fault for command in commands(text) for fault in faults(command)]
    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        "The `skyfix` command, and `skyfix --version`.",
        "```\nskyfix map build a.tif -o b.pack --step 2  # --not an option\n```",
        "`skyfix export engine MODEL [--batch 1,1,32]`",
        "```\nskyfix listen | head -n 3\n```",
    ],
)
def test_a_command_that_exists_is_not_blamed(text: str) -> None:
    assert [fault for command in commands(text) for fault in faults(command)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_links_to_is_there(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
