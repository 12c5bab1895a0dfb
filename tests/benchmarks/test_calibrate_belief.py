"""What calibrate_belief.py fits: planted numbers, what it refuses, and the card that it writes."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.engines.base import load_card
from skyfix.runtime.errors import InputError
from skyfix.runtime.fuse.likelihood import Likelihood

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OLD = Likelihood()
TILES = 300


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules; scripts find each other by their folder."""
    sys.path.insert(0, str(BENCHMARKS))
    names = {"main": "calibrate_belief", "fit": "calibrate_belief_fit",
             "sources": "calibrate_belief_sources"}  # fmt: skip
    yield {key: importlib.import_module(name) for key, name in names.items()}
    sys.path.remove(str(BENCHMARKS))


def rankings(
    fit: ModuleType, temperature: float, epsilon: float, count: int, seed: int
) -> list[object]:
    """Frames whose true tile is drawn from the likelihood itself."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        score = rng.normal(0.3, 0.15, TILES).astype(np.float32)
        share = np.exp(score.astype(float) / temperature)
        chance = (1 - epsilon) * share / share.sum() + epsilon / TILES
        found.append(fit.Ranking(score, int(rng.choice(TILES, p=chance))))
    return found


@pytest.mark.parametrize(("temperature", "epsilon"), [(0.03, 0.05), (0.08, 0.3)])
def test_temperature_and_epsilon_are_found_that_the_true_tiles_were_drawn_with(
    bench: dict[str, ModuleType], temperature: float, epsilon: float
) -> None:
    fit = bench["fit"]
    drawn = rankings(fit, temperature, epsilon, 1500, 1)
    found = fit.fitted_tiles(drawn, np.ones(len(drawn)), OLD)
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.epsilon == pytest.approx(epsilon, rel=0.35)
    assert (found.per_gap, found.offset) == (OLD.per_gap, OLD.offset)


def test_no_neighbour_of_the_fit_is_better_by_the_filters_own_likelihood(
    bench: dict[str, ModuleType],
) -> None:
    fit = bench["fit"]
    drawn = rankings(fit, 0.05, 0.1, 200, 2)
    weight = np.random.default_rng(0).uniform(0.2, 3, len(drawn))

    def loss(temperature: float, epsilon: float) -> float:
        likelihood = Likelihood(temperature=temperature, epsilon=epsilon)
        return float(weight @ fit.tiles_loss(drawn, likelihood))

    best = fit.fitted_tiles(drawn, weight, OLD)
    least = loss(best.temperature, best.epsilon)
    for factor in (0.97, 1.03):
        assert loss(best.temperature * factor, best.epsilon) > least
        assert loss(best.temperature, best.epsilon * factor) > least


def test_some_frames_are_never_explained_however_good_all_were(
    bench: dict[str, ModuleType],
) -> None:
    fit = bench["fit"]
    score = np.zeros(TILES, np.float32)
    score[7] = 1.0
    sure = [fit.Ranking(score, 7)] * 50
    assert fit.fitted_tiles(sure, np.ones(50), OLD).epsilon == fit.EPSILONS[0]


def frames(
    count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Gaps, correlations, and which are right by known odds."""
    rng = np.random.default_rng(seed)
    correlation = rng.uniform(0.2, 0.9, count)
    gap = correlation * rng.uniform(0, 0.8, count)
    odds = 20 * gap + 6 * correlation - 8
    return gap, correlation, rng.random(count) < 1 / (1 + np.exp(-odds))


def test_the_evidence_is_found_that_decided_which_places_are_right(
    bench: dict[str, ModuleType],
) -> None:
    gap, correlation, right = frames(20_000, 3)
    ones = np.ones(len(gap))
    found = bench["fit"].fitted_evidence(gap, correlation, ones, right, ones, OLD)
    assert found.per_gap == pytest.approx(20, rel=0.1)
    assert found.per_correlation == pytest.approx(6, rel=0.15)
    assert found.offset == pytest.approx(8, rel=0.1)
    assert (found.temperature, found.epsilon) == (OLD.temperature, OLD.epsilon)
    odds = found.evidence(correlation, correlation - gap)
    for row in bench["fit"].calibration_of(odds, right):
        assert row.right == pytest.approx(row.predicted, abs=0.04)


def test_a_weight_counts_as_so_many_frames(bench: dict[str, ModuleType]) -> None:
    gap, correlation, right = frames(300, 4)
    weight = np.where(np.arange(300) < 100, 3.0, 1.0)
    often = np.repeat(np.arange(300), weight.astype(int))
    alone = np.ones(len(often))
    weighted = bench["fit"].fitted_evidence(gap, correlation, np.ones(300), right, weight, OLD)
    repeated = bench["fit"].fitted_evidence(
        gap[often], correlation[often], alone, right[often], alone, OLD
    )
    assert weighted == repeated


def test_frames_that_call_a_leading_place_wrong_give_no_evidence(
    bench: dict[str, ModuleType],
) -> None:
    gap, correlation, right = frames(500, 5)
    ones = np.ones(len(gap))
    assert bench["fit"].fitted_evidence(gap, correlation, ones, ~right, ones, OLD) is None


def test_what_a_crowd_adds_is_taken_as_known(bench: dict[str, ModuleType]) -> None:
    """Frames that were sought among many places give the numbers of those among few."""
    fit = bench["fit"]
    gap, correlation, _ = frames(20_000, 6)
    places = np.random.default_rng(6).choice([16, 100, 768], len(gap)).astype(float)
    planted = Likelihood(per_gap=18.0, per_correlation=7.0, offset=9.0)
    odds = fit.evidence_of(planted, gap, correlation, places)
    right = np.random.default_rng(7).random(len(gap)) < 1 / (1 + np.exp(-odds))
    found = fit.fitted_evidence(gap, correlation, places, right, np.ones(len(gap)), OLD)
    assert found.per_gap == pytest.approx(18, rel=0.1)
    assert found.per_correlation == pytest.approx(7, rel=0.2)
    assert found.offset == pytest.approx(9, rel=0.1)


def test_few_frames_of_one_source_weigh_as_much_as_many_of_another(
    bench: dict[str, ModuleType],
) -> None:
    source = np.array(["flown"] * 10 + ["drawn"] * 80 + ["old"] * 30)
    weight = bench["fit"].weights_by_source(source)
    shares = [weight[source == name].sum() for name in ("flown", "drawn", "old")]
    assert shares == pytest.approx([40, 40, 40])
    assert weight.mean() == pytest.approx(1)
    assert bench["fit"].weights_by_source(np.array(["drawn"] * 5)).tolist() == [1.0] * 5


def test_loss_and_calibration_of_a_coin_are_known(bench: dict[str, ModuleType]) -> None:
    right = np.array([True, False, False, False])
    loss = bench["fit"].evidence_loss(np.full(4, np.log(1 / 3)), right)
    assert loss == pytest.approx(-np.log([0.25, 0.75, 0.75, 0.75]))
    (row,) = bench["fit"].calibration_of(np.full(4, np.log(1 / 3)), right)
    assert (row.frames, row.predicted, row.right) == (4, pytest.approx(0.25), 0.25)


def test_numbers_that_are_no_better_on_the_frames_held_out_are_not_taken(
    bench: dict[str, ModuleType],
) -> None:
    judged = bench["main"].Judged
    old, source = np.ones(4), np.array(["flown", "drawn", "drawn", "drawn"])
    assert judged("", source, old, np.array([0.5, 1.0, 1.0, 0.9])).better
    assert not judged("", source, old, old).better
    assert not judged("", source, old, None).better
    # three drawn frames gain 0.1 each, the only flown one loses 0.2
    assert not judged("", source, old, np.array([1.2, 0.9, 0.9, 0.9])).better


def test_a_card_says_where_its_numbers_come_from_however_often_they_are_judged_again(
    bench: dict[str, ModuleType],
) -> None:
    """The fault: what was said of numbers that stay, said again as if it were of the new ones."""
    frames_of, drawn = bench["main"].frames_of, bench["sources"].SIMULATED
    imagery = SimpleNamespace(manifest=SimpleNamespace(imagery=SimpleNamespace(fingerprint="7")))
    sightings = [
        SimpleNamespace(
            shot=SimpleNamespace(source=drawn, held_out=held_out, frame=frame),
            center_en_m=(0.0, 0.0), pack=imagery,
        )
        for held_out, frame in ((False, 1), (True, 2), (True, 3))
    ]  # fmt: skip
    told = Likelihood(frames=("long ago",))
    assert frames_of(sightings, told, tiles=False, evidence=False) == ("long ago",)
    tiles, kept, judged = frames_of(sightings, told, tiles=True, evidence=False)
    assert tiles.startswith("T and epsilon: 1 views of 1 frames (")
    assert kept == "evidence: long ago"
    assert judged.startswith("evidence, judged again and kept: 2 views of 2 frames (")
    again = Likelihood(frames=(tiles, kept, judged))
    assert frames_of(sightings, again, tiles=True, evidence=False) == (tiles, kept, judged)
    old_tiles, judged, evidence = frames_of(sightings, again, tiles=False, evidence=True)
    assert old_tiles == tiles
    assert judged.startswith("T and epsilon, judged again and kept: 2 views")
    assert evidence.startswith("evidence: 1 views of 1 frames (")


@pytest.fixture
def small_lands(bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench["sources"], "SIDE_M", 320.0)


@pytest.mark.usefixtures("small_lands")
def test_the_numbers_and_their_frames_go_into_the_card_and_the_model_stays_itself(
    bench: dict[str, ModuleType],
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "tiny")
    before = load_card(folder)
    bench["main"].main(
        ["--model", str(folder), "--maps", "2", "--frames", "3", "--write", str(folder)]
    )
    card = load_card(folder)  # which also checks the hash of the graphs
    assert card.model_id == before.model_id
    assert card.training == before.training
    assert card.likelihood != before.likelihood
    assert card.likelihood.frames[0] == (
        "T and epsilon: 9 views of 3 frames (simulated over drawn maps 500), sought there and "
        "where they are not; judged on 9 views of 3 frames (simulated over drawn maps 501), "
        "sought there and where they are not"
    )
    printed = capsys.readouterr().out
    assert "frames held out" in printed
    assert json.loads(printed[printed.index("{") : printed.rindex("}") + 1]) == json.loads(
        (folder / "model.json").read_bytes()
    )["likelihood"]  # fmt: skip


def test_a_card_of_another_model_is_refused_before_anything_flies(
    bench: dict[str, ModuleType], tiny_model_folder: Path
) -> None:
    with pytest.raises(InputError, match="is not the model that flies"):
        bench["main"].main(["--model", "nano", "--write", str(tiny_model_folder)])


def test_an_odd_number_of_maps_has_no_half(bench: dict[str, ModuleType]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench["main"].main(["--maps", "3"])
    assert stopped.value.code == 2
