"""The demo on a small land with a tiny model: what it writes, sends and draws is what was flown."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from skyfix.export.demo import ORIGIN, Scene, listening, run_demo
from skyfix.export.demo_report import Summary, fault_of
from skyfix.runtime.encoder import Model
from skyfix.runtime.errors import InputError
from skyfix.runtime.maps.pack import read_manifest
from skyfix.runtime.publish.bus import Publisher
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.score import read_fixes
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.simulator import Conditions

SEED = 3
SCENE = Scene(
    size_m=(320.0, 240.0),
    step_m=4.0,
    waypoints_en_m=((-60.0, 0.0), (60.0, 0.0), (60.0, 36.0)),
    height_m=60.0,
    camera=Camera(320, 180, np.array([[190.0, 0, 159.5], [0, 190, 89.5], [0, 0, 1]]), np.zeros(0)),
    conditions=Conditions(appearance=0.3, flicker=0.0, tilt_std_deg=0.5, yaw_std_deg=1.0),
)
TRUTH_EN_M = [(-60.0 + 12 * k, 0.0) for k in range(10)] + [(60.0, 12.0 * k) for k in range(3)]


@dataclass(frozen=True)
class Run:
    out: Path
    summary: Summary
    fixes: list[FixMessage]


def quiet(_description: str = "") -> Progress:
    return Progress(console=Console(quiet=True))


@pytest.fixture(scope="module")
def run(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("demo") / "out"
    summary = run_demo(SCENE, tiny_model, out, SEED, quiet())
    return Run(out, summary, read_fixes(out / "fixes.jsonl"))


def test_every_frame_has_a_line_in_order(run: Run) -> None:
    assert [fix.frame for fix in run.fixes] == [f"{k:05d}" for k in range(len(TRUTH_EN_M))]
    assert run.summary.frames == len(TRUTH_EN_M)


def test_the_other_process_received_every_fix_as_it_was_written(run: Run) -> None:
    written, received = (
        (run.out / name).read_bytes().splitlines() for name in ("fixes.jsonl", "received.jsonl")
    )
    assert received == written
    assert run.summary.received == len(TRUTH_EN_M)


def test_the_fixes_lie_where_the_route_was_planned(run: Run) -> None:
    errors_m = []
    for fix, (east_m, north_m) in zip(run.fixes, TRUTH_EN_M, strict=True):
        if fix.lat_deg is not None and fix.lon_deg is not None:
            found = ORIGIN.en_from_wgs84(fix.lat_deg, fix.lon_deg)
            errors_m.append(float(np.hypot(found[0] - east_m, found[1] - north_m)))
    assert len(errors_m) == run.summary.fixes >= len(TRUTH_EN_M) - 3
    assert max(errors_m) < 10
    assert run.summary.drone.median_m == pytest.approx(float(np.median(errors_m)), abs=0.01)
    assert fault_of(run.summary) is None


def test_the_drawn_map_is_stated_as_exact(run: Run) -> None:
    (manifest,) = run.out.glob("*/manifest.json")
    assert read_manifest(manifest.parent).imagery.accuracy_m == 0


def test_the_picture_shows_the_land_and_the_track(run: Run) -> None:
    picture = cv2.imread(str(run.out / "track.png"))
    assert picture is not None
    assert picture.shape == (1100, 1600, 3)
    assert picture[100:900, 400:1200].std() > 10  # land, not a flat colour
    assert (picture == 255).all(axis=2).sum() > 2000  # the white track


def test_a_second_run_writes_the_folder_anew(run: Run, tiny_model: Model, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    shutil.copytree(run.out, out)
    again = run_demo(SCENE, tiny_model, out, SEED, quiet())
    assert again.drone == run.summary.drone
    sessions = {fix.session for fix in read_fixes(out / "fixes.jsonl")}
    assert len(sessions) == 1
    assert sessions.isdisjoint({fix.session for fix in run.fixes})


class Interrupted(Progress):
    """Ctrl-C while the pack is being built."""

    def update(self, *args: object, **fields: object) -> None:
        del args
        if fields.get("total") != 1:  # the land is drawn
            raise KeyboardInterrupt


def test_after_ctrl_c_no_old_picture_is_left_and_the_next_run_works(
    run: Run, tiny_model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    shutil.copytree(run.out, out)
    with pytest.raises(KeyboardInterrupt):
        run_demo(SCENE, tiny_model, out, SEED, Interrupted(console=Console(quiet=True)))
    assert sorted(path.name for path in out.iterdir()) == ["map.pack.partial"]
    assert run_demo(SCENE, tiny_model, out, SEED, quiet()).received == len(TRUTH_EN_M)
    assert not (out / "map.pack.partial").exists()


def test_the_listening_process_ends_with_an_interrupted_flight(tmp_path: Path) -> None:
    with (
        Publisher("tcp://127.0.0.1:*") as publisher,
        suppress(KeyboardInterrupt),
        listening(publisher.endpoint, 3, tmp_path / "received.jsonl") as listener,
    ):
        assert publisher.serve(30)
        raise KeyboardInterrupt
    assert listener.wait(10) == -signal.SIGTERM


def test_a_folder_that_is_a_file_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(InputError, match=r"--out .*demo"):
        run_demo(SCENE, tiny_model, tmp_path / "demo", SEED, quiet())
    assert (tmp_path / "demo").read_text() == "mine"


def test_each_fault_of_a_demo_is_a_sentence(run: Run) -> None:
    frames = run.summary.frames
    far = msgspec.structs.replace(run.summary.drone, within_25_m_percent=100 * 4 / frames)
    for fields, sentence in (
        ({"received": frames - 1}, f"only {frames - 1} of {frames} messages reached"),
        ({"fixes": 0}, "no position"),
        ({"fixes": 9, "drone": far}, "only 44 % of the 9 fixes"),
    ):
        fault = fault_of(msgspec.structs.replace(run.summary, **fields))
        assert fault is not None
        assert fault.startswith(sentence)
    assert fault_of(msgspec.structs.replace(run.summary, fixes=8, drone=far)) is None


def test_the_demo_imports_nothing_that_the_cpu_extra_does_not_bring() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'rasterio', 'pyproj', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "import skyfix.export.demo"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def start_demo(out: Path, *options: str) -> "subprocess.Popen[str]":
    code = "from skyfix.runtime.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "demo", "--out", str(out), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def children_of(parent: int) -> list[int]:
    """Processes whose parent this is, by what Linux states of each."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # a process may end while it is read
            if f"\nPPid:\t{parent}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
def test_ctrl_c_in_flight_leaves_no_process_and_exits_with_130(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    demo = start_demo(tmp_path, "--model", str(tiny_model_folder))
    received, deadline_s = tmp_path / "received.jsonl", time.monotonic() + 120
    while not (received.exists() and received.stat().st_size):
        assert time.monotonic() < deadline_s
        assert demo.poll() is None
        time.sleep(0.1)
    (listener,) = children_of(demo.pid)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=20)
    assert demo.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(listener, 0)


@pytest.mark.slow
def test_the_shipped_model_flies_the_whole_demo(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--json")
    output, errors = demo.communicate(timeout=300)
    assert demo.returncode == 0, errors
    summary = msgspec.json.decode(output, type=Summary)
    assert summary.received == summary.frames
    assert 60 <= summary.frames <= 80
    assert (tmp_path / "track.png").is_file()
