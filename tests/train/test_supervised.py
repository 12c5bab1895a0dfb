import math
import shutil
from collections import deque
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest
import torch

from skyfix.runtime.errors import InputError
from skyfix.train.checkpoint import load_network, load_record
from skyfix.train.config import (
    DatasetConfig,
    DatasetRun,
    LossConfig,
    NeighbourConfig,
    OptimiserConfig,
)
from skyfix.train.data.dataset import load_dataset
from skyfix.train.data.images import MIN_READ, read_image
from skyfix.train.data.normalise import normalised
from skyfix.train.descriptors import Describer
from skyfix.train.loop import Progress, Run, train
from skyfix.train.losses import PairLoss
from skyfix.train.mining import score
from skyfix.train.models.config import (
    GeoDTRConfig,
    Sample4GeoConfig,
    University1652Config,
)
from skyfix.train.models.network import Encoded, Network
from skyfix.train.supervised import DatasetLesson

CPU = torch.device("cpu")
SIZES = {"ground": (32, 64), "aerial": (32, 32)}
CONFIG = DatasetRun(
    name="tiny",
    licence="none",
    model=Sample4GeoConfig("convnext_atto", layer_scale=0.1),
    data=DatasetConfig("cvusa", SIZES, augment="sample4geo"),
    loss=LossConfig(info_nce=1.0),
    optimiser=OptimiserConfig(lr=1e-3),
    precision="fp32",
    batch=4,
    ema=0.9,
    epochs=2,
    workers=0,
)
SQUARES = {"drone": (32, 32), "satellite": (32, 32)}
THREE_VIEW = DatasetRun(
    name="three",
    licence="none",
    model=University1652Config(classes=4),
    data=DatasetConfig(
        "university1652",
        SQUARES | {"street": (32, 32)},
        augment="university1652_erasing",
        sampling="views",
    ),
    loss=LossConfig(instance=1.0),
    precision="fp32",
    batch=4,
    epochs=1,
    workers=0,
)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def cvusa(miniature: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("cvusa")
    miniature.make_cvusa(root, train=12, test=4)
    return root


def altered(config: DatasetRun, **data: object) -> DatasetRun:
    """The same run with other keys under `data`."""
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, **data))


def losses_of(
    config: DatasetRun, root: Path, folder: Path, kill_at: int | None = None
) -> list[float]:
    """Losses of a run, which an exception may end after some step."""
    losses: list[float] = []

    def report(progress: Progress) -> None:
        losses.append(progress.loss)
        if progress.step == kill_at:
            raise KilledError

    try:
        train(config, DatasetLesson.from_disk(config, root), folder, CPU, report)
    except KilledError:
        assert len(losses) == kill_at
    return losses


@pytest.mark.parametrize("neighbours", [None, NeighbourConfig(range=4, select=2)])
def test_a_killed_run_goes_on_with_the_same_losses(
    cvusa: Path, tmp_path: Path, neighbours: NeighbourConfig | None
) -> None:
    config = altered(CONFIG, neighbours=neighbours)
    whole = losses_of(config, cvusa, tmp_path / "whole")
    before = losses_of(config, cvusa, tmp_path / "killed", kill_at=5)
    rest = losses_of(config, cvusa, tmp_path / "killed")
    assert len(whole) == 6  # two epochs of three batches
    assert before == pytest.approx(whole[:5], rel=1e-5)
    assert rest == pytest.approx(whole[3:], rel=1e-4)  # from the checkpoint of step 3
    scores = [load_record(tmp_path / name).score for name in ("whole", "killed")]
    assert scores[0] == scores[1]


def test_a_run_that_has_ended_is_left_as_it_is(cvusa: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=1)
    assert len(losses_of(config, cvusa, tmp_path)) == 3
    record = load_record(tmp_path)
    assert losses_of(config, cvusa, tmp_path) == []
    assert load_record(tmp_path) == record


def test_the_score_in_a_checkpoint_is_that_of_its_weights(cvusa: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=1)
    losses_of(config, cvusa, tmp_path / "run")
    test = load_dataset("cvusa", cvusa).tests[0]
    for folder in (tmp_path / "run", tmp_path / "run/best"):
        describer = Describer(load_network(folder), CPU, config.data.resize, workers=0)
        assert load_record(folder).score == score(test, describer, tmp_path)


def test_only_every_so_many_epochs_are_scored_and_the_last_one(cvusa: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=5, evaluate_every=2)
    lesson = DatasetLesson.from_disk(config, cvusa)
    run = Run(config, lesson, Path("unused"), CPU)
    scored = []
    for run.step in (3, 6, 9, 12, 15):
        scored.append(lesson.epoch_ended(run) is not None)
    assert scored == [False, True, False, True, True]


def test_the_first_epoch_is_drawn_by_position_and_the_next_by_similarity(cvusa: Path) -> None:
    config = altered(CONFIG, neighbours=NeighbourConfig(range=4, select=2))
    lesson = DatasetLesson.from_disk(config, cvusa)
    by_position = lesson.state()["neighbours"]
    assert by_position.shape == (12, 4)
    # places of the miniature lie on a line, in order of their numbers
    assert sorted(by_position[5].tolist()) == [3, 4, 6, 7]
    run = Run(config, lesson, Path("unused"), CPU)
    run.advance(next(lesson.batches(0)))  # averaged weights are no longer those that train
    lesson.epoch_ended(run)
    by_similarity = lesson.state()["neighbours"]
    with run.averaged_weights():
        expected = most_similar_references(run.network, cvusa, 4)
    assert torch.equal(by_similarity, expected)
    assert not torch.equal(by_similarity, by_position)


def most_similar_references(network: Network, root: Path, count: int) -> torch.Tensor:
    """The plain way, all at once."""
    data, rows = load_dataset("cvusa", root).train, []
    assert data is not None
    network.eval()
    for view in ("ground", "aerial"):
        paths = data.views[view].paths
        pixels = np.stack([read_image(path, SIZES[view], None, "bilinear") for path in paths])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            rows.append(network.encode(view, normalised(batch)).descriptor)
    similarity = (rows[0] @ rows[1].T).fill_diagonal_(-2)
    return similarity.argsort(dim=1, descending=True)[:, :count]


def test_without_positions_the_first_epoch_has_no_neighbours(cvusa: Path) -> None:
    config = altered(CONFIG, neighbours=NeighbourConfig(range=4, select=2, by_position=False))
    lesson = DatasetLesson.from_disk(config, cvusa)
    assert lesson.state() == {}
    assert len(lesson.planner.epoch(0, None)) == 3
    lesson.epoch_ended(Run(config, lesson, Path("unused"), CPU))
    assert lesson.state()["neighbours"].shape == (12, 4)


def test_chsg_trains_on_two_layouts_that_are_negatives_of_each_other(
    cvusa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = msgspec.structs.replace(
        altered(CONFIG, augment="geodtr_strong", chsg=True),
        model=GeoDTRConfig(layouts=2, heads=2, feedforward=64),
        loss=LossConfig(triplet=1.0, counterfactual=1.0),
        batch=3,
    )
    lesson = DatasetLesson.from_disk(config, cvusa)
    run = Run(config, lesson, Path("unused"), CPU)
    seen = watched(lesson, monkeypatch)
    progress = run.advance(next(lesson.batches(0)))
    assert 0 < progress.loss < 10
    ((query, reference, ignore),) = seen
    assert query.counterfactual is not None
    assert reference.counterfactual is not None
    assert len(query.descriptor) == len(reference.descriptor) == 6
    assert not ignore.any()


def watched(
    lesson: DatasetLesson, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Encoded, Encoded, torch.Tensor]]:
    """What the loss of pairs is given from now on."""
    loss, seen = lesson.loss, list[tuple[Encoded, Encoded, torch.Tensor]]()
    assert isinstance(loss, PairLoss)
    forward = loss.forward

    def watching(
        query: Encoded, reference: Encoded, ignore: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        seen.append((query, reference, ignore))
        return forward(query, reference, ignore)

    monkeypatch.setattr(loss, "forward", watching)
    return seen


def test_references_of_vigor_come_twice_an_epoch(miniature: ModuleType, tmp_path: Path) -> None:
    miniature.make_vigor(tmp_path / "vigor", train=8, test=2)
    config = altered(CONFIG, name="vigor", sampling="references", options={"area": "same"})
    config = msgspec.structs.replace(config, epochs=1, batch=8)
    lesson = DatasetLesson.from_disk(config, tmp_path / "vigor")
    covered = len(np.unique(lesson.planner.train_set.pairs[:, 1]))
    losses = losses_of(config, tmp_path / "vigor", tmp_path / "run")
    assert len(losses) == 2 * covered // 8
    assert load_record(tmp_path / "run").score is not None


def test_places_that_a_batch_shows_twice_are_no_negatives(
    miniature: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature.make_university1652(tmp_path, train=4, test=2)
    config = msgspec.structs.replace(
        altered(CONFIG, name="university1652", input_px=SQUARES, augment="sample4geo_drone"),
        batch=16,  # all drone images of four places
    )
    lesson = DatasetLesson.from_disk(config, tmp_path)
    run = Run(config, lesson, Path("unused"), CPU)
    seen = watched(lesson, monkeypatch)
    run.advance(next(lesson.batches(0)))
    ((_, _, ignore),) = seen
    assert ignore.sum(dim=1).tolist() == [3] * 16


def test_the_baseline_learns_classes_from_views_drawn_alone(
    miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.make_university1652(tmp_path, train=4, test=2)
    lesson = DatasetLesson.from_disk(THREE_VIEW, tmp_path)
    assert lesson.views == ("drone", "satellite", "street")
    run = Run(THREE_VIEW, lesson, Path("unused"), CPU)
    loss = run.advance(next(lesson.batches(0))).loss
    assert loss == pytest.approx(3 * math.log(4), rel=0.02)  # three views, a fresh classifier


def test_a_network_with_too_few_classes_is_refused(miniature: ModuleType, tmp_path: Path) -> None:
    miniature.make_university1652(tmp_path, train=4, test=2)
    narrow = msgspec.structs.replace(THREE_VIEW.model, classes=3)
    with pytest.raises(InputError, match=r"3 classes and the data set 4 places.*classes to 4"):
        DatasetLesson.from_disk(msgspec.structs.replace(THREE_VIEW, model=narrow), tmp_path)


def test_a_test_of_an_unknown_name_is_refused_before_training(cvusa: Path) -> None:
    with pytest.raises(InputError, match="no test 'vall' with answers; it has val"):
        DatasetLesson.from_disk(altered(CONFIG, test="vall"), cvusa)


def test_the_named_test_scores_the_epochs(miniature: ModuleType, tmp_path: Path) -> None:
    miniature.make_university1652(tmp_path, train=4, test=2)
    config = altered(THREE_VIEW, test="satellite->drone")
    lesson = DatasetLesson.from_disk(config, tmp_path)
    assert lesson.test is not None
    assert (lesson.test.query.view, lesson.test.gallery.view) == ("satellite", "drone")


def test_a_data_set_without_its_training_part_is_refused(
    miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.make_university1652(tmp_path, train=2, test=2)
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match="university1652: the training part is not there"):
        DatasetLesson.from_disk(THREE_VIEW, tmp_path)


def test_broken_images_are_counted_over_the_batches_and_stop_the_run(
    miniature: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    miniature.make_cvusa(tmp_path, train=12, test=2)
    data = load_dataset("cvusa", tmp_path)
    assert data.train is not None
    bad = data.train.views["ground"].paths[7]
    bad.write_bytes(bad.read_bytes()[:100])
    lesson = DatasetLesson(CONFIG, data)
    batches = lesson.batches(0)
    for _ in range(6):
        next(batches)
    assert lesson.broken.failed >= 1
    assert lesson.broken.paths == [bad]
    assert lesson.broken.read == 6 * 8 + lesson.broken.failed
    with pytest.raises(InputError, match=r"images cannot be read, the first is"):
        deque(batches, maxlen=0)  # for ever
    assert lesson.broken.read >= MIN_READ
    assert caplog.text.count("skipped") == 1


def test_augmentation_follows_the_step_alone(cvusa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = DatasetLesson.from_disk(CONFIG, cvusa)
    run = Run(CONFIG, lesson, Path("unused"), CPU)
    batches = lesson.batches(0)
    first, second = next(batches), next(batches)
    second = first | {"step": second["step"]}  # the same images, a step later
    seen: list[torch.Tensor] = []
    encode = run.network.encode

    def watching(view: str, images: torch.Tensor) -> Encoded:
        if view == "aerial":
            seen.append(images.clone())
        return encode(view, images)

    monkeypatch.setattr(run.network, "encode", watching)
    for drawn_before, batch in enumerate((first, first, second)):
        torch.manual_seed(drawn_before)
        run.advance(batch)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
