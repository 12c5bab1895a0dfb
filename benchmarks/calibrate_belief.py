r"""The likelihood of a model's card: fitted on frames, judged on others.

    python benchmarks/calibrate_belief.py [--model nano] [--maps 4] [--frames 40]
                                          [--flight ../shared/data] [--write MODEL_FOLDER]

A simulated camera flies over drawn maps that no training has seen. With --flight fengyuan flight A
counts as well, and a camera over naip's imagery of one year in the map of another, each as much as
all that is drawn. Every frame is looked for alone, in its own map and where it is not. T and
epsilon are those under which the true tiles are most likely; the evidence is a logistic regression
of "the best place is right". T and epsilon are fitted on one half of the frames and judged on the
other, the evidence on all where each half is better judged by a fit on the other. Numbers that are
no better are not taken.
--write puts the rest into a card, with the frames they come from.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from calibrate_belief_fit import (
    Array,
    Flags,
    Sources,
    calibration_of,
    evidence_loss,
    evidence_of,
    fitted_evidence,
    fitted_tiles,
    tiles_loss,
    weights_by_source,
)
from calibrate_belief_frames import Outcome, Sighting, outcome_of, ranking_of
from calibrate_belief_sources import (
    FLOWN,
    OTHER_YEARS,
    SIMULATED,
    across_years,
    lands_and_packs,
    real,
    simulated,
)
from rich.console import Console
from rich.progress import track
from tables import TextTable, number, show

from skyfix.runtime.encoder import Model, load_model, model_folder
from skyfix.runtime.engines.base import load_card, save_card
from skyfix.runtime.errors import InputError, SkyfixError
from skyfix.runtime.fuse.likelihood import Likelihood

WEIGHT_BINS = (0.0, 0.5, 0.8, 0.95, 0.99, 0.999, 1.01)
SOURCES = (SIMULATED, FLOWN, OTHER_YEARS)
# Tiles of four times the ground that the model knows say nothing of its own.
OWN_MAPS = (SIMULATED, FLOWN)
TILES, EVIDENCE, AGAIN = "T and epsilon", "evidence", "judged again and kept:"


@dataclass(frozen=True)
class Judged:
    """Numbers old and new on frames that neither was fitted on."""

    what: str
    source: Sources  # (F,)
    old: Array  # (F,) nats
    new: Array | None  # None where the fit makes no sense

    @property
    def better(self) -> bool:
        """Whether the new numbers say more, every source counting the same."""
        weight = weights_by_source(self.source)
        return self.new is not None and float(weight @ (self.new - self.old)) < 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Fly, fit, judge, print, write."""
    asked = _asked(arguments)
    model = load_model(model_folder(asked.model), engine=asked.engine)
    if asked.write is not None and load_card(asked.write).model_id != model.card.model_id:
        raise InputError(f"--write: {asked.write} is not the model that flies, {asked.model}")
    with tempfile.TemporaryDirectory() as folder:
        sightings = gathered(model, asked.maps, asked.frames, asked.flight, Path(folder))
        old = model.card.likelihood
        likelihood, tiles = tiles_judged(sightings, old)
        outcomes = outcomes_of(sightings, likelihood)
        likelihood, evidence = evidence_judged(outcomes, likelihood)
        likelihood = msgspec.structs.replace(
            likelihood,
            frames=frames_of(sightings, old, tiles.better, evidence.better),
        )
        show(losses([tiles, evidence]), markdown=False)
        report(outcomes_of([s for s in sightings if s.shot.held_out], likelihood), likelihood)
    print(msgspec.json.format(msgspec.json.encode(likelihood), indent=2).decode())
    if asked.write is not None:
        written(asked.write, old, likelihood)


def gathered(
    model: Model, maps: int, frames: int, flight: Path | None, folder: Path
) -> list[Sighting]:
    """All frames, seen."""
    lands = lands_and_packs(model, maps, folder)
    stream = simulated(lands, model, frames)
    found = list(track(stream, "simulated frames", console=_stderr(), transient=True))
    if flight is not None:
        found += track(
            real(flight, model, folder), "the real flight", console=_stderr(), transient=True
        )
        years = across_years(flight, model, frames, folder)
        found += track(years, "another year", console=_stderr(), transient=True)
    return found


def tiles_judged(sightings: Sequence[Sighting], old: Likelihood) -> tuple[Likelihood, Judged]:
    """T and epsilon by one half of the frames over their own maps, judged by the other."""
    ranked = [
        (s.shot, found)
        for s in sightings
        if s.shot.source in OWN_MAPS and (found := ranking_of(s)) is not None
    ]
    fit, check = ([pair for pair in ranked if pair[0].held_out is held] for held in (False, True))
    weight = weights_by_source(np.array([shot.source for shot, _ in fit]))
    new = fitted_tiles([ranking for _, ranking in fit], weight, old)
    rankings = [ranking for _, ranking in check]
    judged = Judged(
        f"T {new.temperature:g} for {old.temperature:g}, "
        f"epsilon {new.epsilon:g} for {old.epsilon:g}",
        np.array([shot.source for shot, _ in check]),
        tiles_loss(rankings, old), tiles_loss(rankings, new),
    )  # fmt: skip
    return (new if judged.better else old), judged


def evidence_judged(outcomes: Sequence[Outcome], old: Likelihood) -> tuple[Likelihood, Judged]:
    """The evidence by all frames, where each half is better judged by a fit on the other.

    Half of the frames is one pair of years of naip, and two pairs differ more than that.
    """
    gap, correlation, places, right, source, held = (
        np.array([getattr(outcome, name) for outcome in outcomes])
        for name in ("gap", "correlation", "places", "right", "source", "held_out")
    )

    def fitted(some: Flags) -> Likelihood | None:
        weight = weights_by_source(source[some])
        return fitted_evidence(gap[some], correlation[some], places[some], right[some], weight, old)

    def loss(likelihood: Likelihood, some: Flags) -> Array:
        odds = evidence_of(likelihood, gap[some], correlation[some], places[some])
        return evidence_loss(odds, right[some])

    everything = np.ones(len(held), bool)
    halves, new = (fitted(~held), fitted(held)), fitted(everything)
    crossed = None
    if halves[0] is not None and halves[1] is not None:
        crossed = np.where(held, loss(halves[0], everything), loss(halves[1], everything))
    numbers = "senseless" if new is None else _evidence(new)
    judged = Judged(
        f"evidence {numbers} for {_evidence(old)}", source, loss(old, everything), crossed
    )
    return (new if new is not None and judged.better else old), judged


def outcomes_of(sightings: Sequence[Sighting], likelihood: Likelihood) -> list[Outcome]:
    """The best places of all frames that show structure."""
    found = (
        outcome_of(sighting, likelihood)
        for sighting in track(sightings, "places", console=_stderr(), transient=True)
    )
    return [outcome for outcome in found if outcome is not None]


def frames_of(
    sightings: Sequence[Sighting], old: Likelihood, tiles: bool, evidence: bool
) -> tuple[str, ...]:
    """What the card says of its numbers: the frames they were fitted on, and judged on."""
    if not tiles and not evidence:
        return old.frames
    lines: list[str] = []
    for numbers, taken, sources in ((TILES, tiles, OWN_MAPS), (EVIDENCE, evidence, SOURCES)):
        there = [s for s in sources if any(seen.shot.source == s for seen in sightings)]
        judged = [_count(sightings, source, held_out=True) for source in there]
        if taken:
            fitted = [_count(sightings, source, held_out=False) for source in there]
            said = "and {}; each judged by a fit on the other" if numbers == EVIDENCE else (
                "judged on {}")  # fmt: skip
            lines += [
                f"{numbers}: {a}; {said.format(b)}" for a, b in zip(fitted, judged, strict=True)
            ]
        else:
            lines += _kept(numbers, old.frames)
            lines += [f"{numbers}, {AGAIN} {line}" for line in judged]
    return tuple(lines)


def _kept(numbers: str, frames: Sequence[str]) -> list[str]:
    """Where numbers come from that stay; a card that does not name them speaks of all at once."""
    own = [line for line in frames if line.startswith(numbers) and AGAIN not in line]
    return own or [f"{numbers}: {line}" for line in frames]


def losses(judged: Sequence[Judged]) -> TextTable:
    """Held-out log losses, by source and in all."""
    rows = []
    for part in judged:
        for name, chosen in _by_source(part.source):
            weight = weights_by_source(part.source[chosen])
            rows.append((
                part.what, name, str(int(chosen.sum())), _mean(part.old[chosen], weight),
                "-" if part.new is None else _mean(part.new[chosen], weight),
                "taken" if part.better else "not better: the old are kept",
            ))  # fmt: skip
    return TextTable(
        "frames held out: log loss in nats", ("numbers", "frames", "", "old", "new", ""), rows
    )


def report(outcomes: Sequence[Outcome], likelihood: Likelihood) -> None:
    """What the numbers lead to on the frames held out."""
    right = np.array([outcome.right for outcome in outcomes])
    gap = np.array([outcome.gap for outcome in outcomes])
    correlation = np.array([outcome.correlation for outcome in outcomes])
    source = np.array([outcome.source for outcome in outcomes])
    places = np.array([outcome.places for outcome in outcomes])
    odds = evidence_of(likelihood, gap, correlation, places)
    for name, chosen in _by_source(source):
        rows = [
            (f"{row.low:g} .. {row.high:g}", str(row.frames), number(row.predicted, 3),
             number(row.right, 3))
            for row in calibration_of(odds[chosen], right[chosen])
        ]  # fmt: skip
        header = ("the best place is right", "frames", "predicted", "is right")
        show(TextTable(f"evidence, {name}", header, rows), markdown=False)
    weight = np.array([outcome.weight for outcome in outcomes])
    rows = [
        (
            f"{low:g} .. {min(high, 1):g}",
            str(int(inside.sum())),
            number(float(weight[inside].mean()), 4),
            number(float(right[inside].mean()), 3),
        )
        for low, high in pairwise(WEIGHT_BINS)
        if (inside := (weight >= low) & (weight < high)).any()
    ]
    header = ("", "frames", "mean", "is right")
    show(TextTable("weight of the leader, all", header, rows), markdown=False)
    drawn = [outcome for outcome in outcomes if outcome.right and outcome.source == SIMULATED]
    if drawn:  # a real frame's truth is no better than its place
        ellipses(drawn)


def ellipses(outcomes: Sequence[Outcome]) -> None:
    """How many errors of right places their own covariance holds."""
    errors = np.array([outcome.error_en_m for outcome in outcomes])
    inverse = np.linalg.inv(np.array([outcome.cov_en_m2 for outcome in outcomes]))
    squared = np.einsum("ni,nij,nj->n", errors, inverse, errors)
    held = [
        f"{share} %: {np.mean(squared < bound):.0%}" for share, bound in ((68, 2.279), (95, 5.991))
    ]
    print(f"right simulated places: median error {np.median(np.hypot(*errors.T)):.2f} m; "
          f"in their own ellipses of {', '.join(held)}")  # fmt: skip


def written(folder: Path, old: Likelihood, new: Likelihood) -> None:
    """The likelihood into a card; whatever else it says stays."""
    if new == old:
        print(f"{folder}: nothing is better on the frames held out, the card stays as it is")
        return
    save_card(folder, msgspec.structs.replace(load_card(folder), likelihood=new))
    print(f"{folder}: written")


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano", help="shipped model or model folder")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--maps", type=int, default=4, help="drawn maps, an even number")
    parser.add_argument("--frames", type=int, default=40, help="over each map")
    parser.add_argument("--flight", type=Path, metavar="DATA", help="folder with fengyuan/, nust/")
    parser.add_argument("--write", type=Path, metavar="MODEL_FOLDER", help="put it into this card")
    asked = parser.parse_args(arguments)
    if asked.maps < 2 or asked.maps % 2 or asked.frames < 1:
        parser.error(
            "--maps is an even number, for half of them are held out; --frames is 1 or more"
        )
    return asked


def _count(sightings: Sequence[Sighting], source: str, *, held_out: bool) -> str:
    """Frames of one source and half, and where they were sought."""
    own = [
        sighting
        for sighting in sightings
        if (sighting.shot.source, sighting.shot.held_out) == (source, held_out)
        and sighting.center_en_m is not None
    ]
    where = source
    if source != FLOWN:
        maps = sorted({sighting.pack.manifest.imagery.fingerprint for sighting in own})
        where = f"{source} over {'drawn maps' if source == SIMULATED else 'the map of'} "
        where += ", ".join(maps)
    frames = len({sighting.shot.frame for sighting in own})
    return f"{len(own)} views of {frames} frames ({where}), sought there and where they are not"


def _by_source(source: Sources) -> list[tuple[str, Flags]]:
    """Each source that is there, and all as one where several are."""
    parts = [(name, source == name) for name in SOURCES]
    found = [(name, chosen) for name, chosen in parts if chosen.any()]
    return found if len(found) == 1 else [*found, ("all, each as much", np.ones(len(source), bool))]


def _mean(loss: Array, weight: Array) -> str:
    return number(float(np.average(loss, weights=weight)), 4)


def _evidence(likelihood: Likelihood) -> str:
    return f"{likelihood.per_gap:g}, {likelihood.per_correlation:g}, {likelihood.offset:g}"


def _stderr() -> Console:
    return Console(stderr=True)


if __name__ == "__main__":
    try:
        main()
    except SkyfixError as error:
        sys.exit(str(error))
