"""The verbs of the runtime. Tiny on purpose: read at every start of `skyfix`."""

from .cli import Verb

VERBS: tuple[Verb, ...] = (
    Verb("replay", "skyfix.runtime.replay:replay", "Turn recorded frames into position fixes."),
    Verb("score", "skyfix.runtime.score:score", "Compare fixes with the true positions."),
    Verb("listen", "skyfix.runtime.listen:listen", "Print the fixes that are published."),
    Verb("bench", "skyfix.runtime.bench.cli:bench", "Measure every stage of a fix here."),
    Verb("models", "skyfix.runtime.catalog:models", "List the models that are installed."),
    Verb("map coverage", "skyfix.runtime.coverage.cli:coverage", "Say where a flight is found."),
)
