"""The verb from the command line to its files, with the real engine, pack and socket."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from skyfix.export.engine import engines_from_model
from skyfix.runtime.bench import run, workload
from skyfix.runtime.bench.record import Record, read_record
from skyfix.runtime.bench.stages import EncodeRun, Sample
from skyfix.runtime.bench.workload import Video
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import Model, model_folder
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.engines.built import BuildOptions
from skyfix.runtime.engines.cuda import Device

FRAMES = "24"
Bench = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def bench(
    tiny_model_folder: Path, small_video: Video, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bench:  # fmt: skip
    """Exit code, output and errors of a call with the tiny model."""
    monkeypatch.setattr(workload, "VIDEO", small_video)

    def called(*words: object, model: object = tiny_model_folder) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["bench", "--model", str(model), "--frames", FRAMES, *map(str, words)])
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    return called


def test_a_run_over_a_pack_records_every_frame_of_every_stage(
    bench: Bench, town_pack: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "run.json", tmp_path / "bench.png"
    code, text, _ = bench("--pack", town_pack, "--json", out, "--picture", picture)
    record = read_record(out)
    assert code == 0
    assert len(record.end_to_end_ms) == 24
    assert {"ortho", "encode", "search", "refine", "publish"} <= record.path_ms.keys()
    assert record.path_ms.keys() | {"end to end", "decode", "deliver"} == set(
        record.summary.percentiles_ms if record.summary else ()
    )
    shares = [
        sum(samples[index] or 0 for samples in record.path_ms.values()) / whole_ms
        for index, whole_ms in enumerate(record.end_to_end_ms)
    ]
    assert max(shares) <= 1.01
    assert np.median(shares) > 0.7  # a frame may lose the processor between two stages
    assert sum(record.statuses.values()) == 24
    assert record.memory.rss_mb is not None
    assert "end to end" in text
    assert cv2.imread(str(picture)) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.png", "run.json"]


def test_a_run_without_a_pack_times_ortho_and_encode(bench: Bench, tmp_path: Path) -> None:
    code, text, _ = bench("--json", tmp_path / "run.json", "--markdown")
    record = read_record(tmp_path / "run.json")
    assert code == 0
    assert list(record.path_ms) == ["ortho", "encode"]
    assert record.statuses == {"described": 24}
    assert "| encode |" in text


def test_a_run_is_compared_with_a_stored_one(bench: Bench, tmp_path: Path) -> None:
    bench("--json", tmp_path / "run.json")
    code, text, _ = bench("--compare", tmp_path / "run.json")
    assert code == 0
    assert "95 % interval" in text


def test_a_stored_run_of_other_work_is_refused_before_the_clock_starts(
    bench: Bench, tmp_path: Path, town_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench("--json", tmp_path / "run.json")
    monkeypatch.setattr(run, "warm_up", lambda *_: pytest.fail("it ran"))
    code, _, error = bench("--compare", tmp_path / "run.json", "--pack", town_pack)
    assert code == 2
    assert "did other work (ground drawn -> pack" in error


def test_ctrl_c_prints_what_it_has_and_leaves_no_file(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flown = EncodeRun.run

    def interrupted(self: EncodeRun, number: int, shot: workload.Shot) -> Sample:
        if clock_runs and number >= clock_runs[0] + 10:
            raise KeyboardInterrupt
        return flown(self, number, shot)

    clock_runs: list[int] = []
    measured = run._measured

    def noted(runner: EncodeRun, flight: workload.Flight, first: int, advance: object) -> object:
        clock_runs.append(first)
        return measured(runner, flight, first, advance)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(EncodeRun, "run", interrupted)
    monkeypatch.setattr(run, "_measured", noted)
    code, text, error = bench("--json", tmp_path / "run.json", "--picture", tmp_path / "a.png")
    assert code == 130
    assert "interrupted after 10 of 24 frames" in text
    assert "nothing was written" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--engine", "quick"), 2, "--engine quick: choose among"),
        (("--frames", "3"), 2, "--frames 3: give at least 24"),
        (("--json", "none/run.json"), 2, "its folder does not exist"),
        (("--compare", os.devnull), 2, "no whole record of a benchmark"),
        (("--pack", "none.pack"), 3, "is no tile pack"),
    ],
)
def test_bad_input_ends_with_a_sentence(
    bench: Bench, words: tuple[str, ...], code: int, message: str
) -> None:
    found, _, error = bench(*words)
    assert found == code
    assert message in error


def test_a_model_that_is_not_there_is_refused(bench: Bench) -> None:
    code, _, error = bench(model="no_such_model")
    assert code == 3
    assert "no model 'no_such_model'" in error


def test_a_pack_of_another_model_is_refused(bench: Bench, town_pack: Path) -> None:
    code, _, error = bench("--pack", town_pack, model="nano")
    assert code == 3
    assert f"not with {load_card(model_folder('nano')).model_id}" in error


def test_an_engine_that_cannot_run_here_is_an_error_and_not_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.runtime.engines.cuda_driver.LIBRARY", "libcuda_is_not_here.so")
    code, text, error = bench("--engine", "tensorrt")
    assert code == 3
    assert "no NVIDIA driver here" in error
    assert text == ""


def test_the_record_says_what_ran(bench: Bench, tmp_path: Path, tiny_model: Model) -> None:
    bench("--json", tmp_path / "run.json", "--engine", "onnx")
    raw = msgspec.json.decode((tmp_path / "run.json").read_bytes())
    record = msgspec.convert(raw, Record)
    assert record.subject.model_id == tiny_model.card.model_id
    assert (record.subject.engine, record.workload.frames) == ("onnx", 24)
    assert "onnxruntime" in record.machine.libraries


def test_a_gpu_engine_is_split_as_trtexec_does(
    bench: Bench, fake_tensorrt: Device, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """On the stand-ins any two events are 1.5 ms apart, and 3 of 8 MiB are always free."""
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))
    options = BuildOptions(min_batch=1, best_batch=1, max_batch=4, workspace_mib=64, level=3)
    engines_from_model(folder, options)
    out = tmp_path / "run.json"
    code, text, error = bench(
        "--engine", "tensorrt-unchecked", "--json", out, "--markdown", model=folder
    )
    assert (code, error) == (0, "")
    record = read_record(out)
    assert record.engine_ms["H2D"] == record.engine_ms["D2H"] == [1.5] * 24
    assert record.engine_ms["latency"] == [4.5] * 24
    assert record.machine.gpu == fake_tensorrt.name
    assert (record.memory.gpu_used_mb, record.memory.gpu_total_mb) == (0.0, 8.388608)
    assert "| H2D | 1.50 |" in " ".join(text.split())
