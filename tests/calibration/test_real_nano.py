from pathlib import Path

import numpy as np
import onnx
import pytest

from skyfix.calibration.frames import flight_candidates, picture_candidates
from skyfix.calibration.layers import layers_of
from skyfix.calibration.observe import observed_ranges, session_of
from skyfix.calibration.quantize import with_int8_layers
from skyfix.calibration.sensitivity import described
from skyfix.calibration.table import METHODS, scale_from_range
from skyfix.runtime.encoder import model_folder, normalised
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.replay import recording_from_files

pytestmark = pytest.mark.real


def test_int8_nano_calibrated_on_other_places_keeps_its_descriptors_on_flight_a(
    shared_data: Path,
) -> None:
    area, folder = shared_data / "fengyuan", model_folder("nano")
    card, model = load_card(folder), onnx.load(folder / "encoder.onnx")
    recording = recording_from_files(
        str(area / "frames"), str(area / "flight_A.csv"), area / "camera.yaml"
    )
    pictures = picture_candidates(shared_data / "train" / "fair_oam_banepa", card)[::3]
    flight, other = (
        np.stack([normalised(found.patch, card.mean, card.std) for found in candidates])
        for candidates in (flight_candidates(recording, card)[::3], pictures)
    )
    layers = layers_of(model)
    ranges = observed_ranges(model, [layer.input for layer in layers], [other])
    expected = described(session_of(model), flight)
    for method in METHODS:
        scales = {
            layer.output: scale_from_range(ranges[layer.input].of(method)) for layer in layers
        }
        found = described(session_of(with_int8_layers(model, scales)), flight)
        assert np.sum(expected * found, axis=1).min() > 0.99
