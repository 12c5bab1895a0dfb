"""The pack that whole walks over the town fly over."""

import pytest

from skyfix.export.packs import build_pack
from skyfix.runtime.encoder import Model
from skyfix.runtime.fuse.reckoning import Reckoning
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster


@pytest.fixture(scope="session")
def pack(town: Raster, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> TilePack:
    """Tiles every 4 m; tests of packs themselves have packs of their own."""
    folder = tmp_path_factory.mktemp("packs") / "town"
    build_pack(town, tiny_model, folder, imagery=Imagery(fingerprint="town"), step_m=4.0)
    return TilePack.open(folder, model_id=tiny_model.card.model_id)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The new ground of every frame that is compared, in tiles' widths."""
    noted: list[float] = []

    def note(reckoning: Reckoning) -> float:
        noted.append(take_in(reckoning))
        return noted[-1]

    take_in = Reckoning.take_in
    monkeypatch.setattr(Reckoning, "take_in", note)
    return noted
