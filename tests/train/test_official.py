import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skyfix.runtime.cli import main
from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.checkpoint import load_network, load_record
from skyfix.train.models.build import build_network
from skyfix.train.models.config import Sample4GeoConfig, University1652Config
from skyfix.train.models.geodtr import GeoDTR, GeoDTRPlus
from skyfix.train.models.network import Network
from skyfix.train.models.sample4geo import Sample4Geo
from skyfix.train.models.three_view import University1652
from skyfix.train.official import config_with, import_checkpoint, official_state
from skyfix.train.official_cli import sizes_from_words

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
CASES = {
    "geodtr_v1_resnet34_cvusa": ("geodtr", ()),
    "geodtr_plus_convnext_cvusa": ("geodtr_plus", ()),
    "geodtr_plus_convnext_cvusa_polar": ("geodtr_plus", ()),
    "geodtr_plus_resnet34_cvact": ("geodtr_plus", ()),
    "mfrgn_convnext_tiny_cvusa": ("mfrgn", ()),
    "mfrgn_drone_convnext_tiny_256": ("mfrgn_drone", ()),
    "sample4geo_convnext_tiny_256": ("sample4geo", ("--input", "image=256x256")),
    "university1652_three_view_resnet50_256_s1": (
        "university1652", ("--set", "stride=1", "--set", "share=true"),
    ),
}  # fmt: skip
SMALL = Sample4GeoConfig("convnext_atto")


def small_state() -> dict[str, torch.Tensor]:
    """A state dict with the published names of Sample4Geo."""
    network = build_network(SMALL, {"drone": (32, 32)})
    return {f"model.{key.split('.', 1)[1]}": value for key, value in network.state_dict().items()}


def outputs(network: Network, images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the reference file names its arrays."""
    if isinstance(network, University1652):
        return {f"feature_{v}": network.features(v, x) for v, x in images.items()} | {
            f"logits_{v}": network.classify(v, x) for v, x in images.items()
        }
    if isinstance(network, Sample4Geo):
        return {"image": network.features(images["image"])}
    encoded = {view: network.encode(view if view in network.views else "drone", x)
               for view, x in images.items()}  # fmt: skip
    found = {view: one.descriptor for view, one in encoded.items()}
    if isinstance(network, GeoDTR | GeoDTRPlus):
        found |= {f"{v}_layout": one.layout for v, one in encoded.items() if one.layout is not None}
    return found


@pytest.mark.real
@pytest.mark.parametrize("case", CASES)
def test_a_published_checkpoint_imported_by_the_command_gives_the_published_outputs(
    case: str, tmp_path: Path
) -> None:
    if not GOLDEN.is_dir():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    stated = json.loads((GOLDEN / f"{case}.json").read_text())
    state = {
        f"module.{key}": torch.from_numpy(np.asarray(reference.fill(key, tuple(shape))))
        for key, shape in stated["state_dict"].items()
    }
    torch.save(state, tmp_path / "official.pth")
    system, options = CASES[case]
    command = ["checkpoint", "import", str(tmp_path / "official.pth"), "--from", system]
    with pytest.raises(SystemExit) as stop:
        main([*command, "-o", str(tmp_path / "ours"), *options])
    assert not stop.value.code
    images = {
        key: torch.from_numpy(reference.image(key, tuple(shape)))
        for key, shape in stated["inputs"].items()
    }
    with torch.no_grad(), np.load(GOLDEN / f"{case}.npz") as expected:
        found = outputs(load_network(tmp_path / "ours"), images)
        for name in expected:
            if name in found:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)
        assert set(images) <= {name.split("_")[-1] for name in set(expected) & set(found)}


class Bomb:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path, ("gone",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": small_state(), "epoch": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ModelError, match=r"needs code to be unpickled.*torch\.save"):
        official_state(tmp_path / "bomb.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ModelError, match="needs code"):
        official_state(tmp_path / "plain.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrappers_and_prefixes_of_training_scripts_are_taken_off(
    tmp_path: Path, wrapper: str | None
) -> None:
    content: object = {f"module.{key}": value for key, value in small_state().items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "a.pth")
    assert official_state(tmp_path / "a.pth").keys() == small_state().keys()
    save_file(small_state(), tmp_path / "a.safetensors")
    assert official_state(tmp_path / "a.safetensors").keys() == small_state().keys()


def test_a_file_that_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        official_state(tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ModelError, match="no checkpoint that torch can read"):
        official_state(tmp_path / "cut.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no state dict but a list"):
        official_state(tmp_path / "list.pth")


def test_the_record_says_where_weights_come_from_and_what_they_are(tmp_path: Path) -> None:
    torch.save(small_state(), tmp_path / "small.pth")
    sizes = {"drone": (64, 64), "satellite": (32, 32)}
    import_checkpoint(tmp_path / "small.pth", "sample4geo", tmp_path / "ours", {}, sizes)
    record = load_record(tmp_path / "ours")
    assert record.network == SMALL
    assert record.input_px == sizes
    assert record.source.startswith("small.pth, SHA-256 ")
    assert record.run is None


def test_weights_of_another_system_are_named(tmp_path: Path) -> None:
    torch.save(small_state(), tmp_path / "small.pth")
    with pytest.raises(ModelError, match="no checkpoint of MFRGN"):
        import_checkpoint(tmp_path / "small.pth", "mfrgn", tmp_path / "ours", {})
    with pytest.raises(InputError, match="no system is called 'vit'"):
        import_checkpoint(tmp_path / "small.pth", "vit", tmp_path / "ours", {})
    assert not (tmp_path / "ours").exists()


def test_a_missing_weight_is_named_with_its_key(tmp_path: Path) -> None:
    state = small_state()
    del state["model.stages.2.blocks.1.norm.bias"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ModelError, match=r"stages\.2\.blocks\.1\.norm\.bias is missing"):
        import_checkpoint(tmp_path / "short.pth", "sample4geo", tmp_path / "ours", {})


def test_settings_are_read_as_the_configuration_has_them() -> None:
    config = config_with(University1652Config(), {"stride": "1", "share": "false", "pool": "max"})
    assert config == University1652Config(stride=1, share=False, pool="max")
    with pytest.raises(InputError, match=r"no setting color.*stride"):
        config_with(University1652Config(), {"color": "red"})
    with pytest.raises(InputError, match="--set"):
        config_with(University1652Config(), {"stride": "7"})


def test_sizes_are_read_view_by_view() -> None:
    assert sizes_from_words(["ground=122x671", "aerial=256x256"]) == {
        "ground": (122, 671), "aerial": (256, 256),
    }  # fmt: skip
    assert sizes_from_words([]) is None
    with pytest.raises(InputError, match="is no size"):
        sizes_from_words(["ground=122"])
