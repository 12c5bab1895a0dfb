"""How far our networks are from the published ones, on the published ones' own outputs.

    python benchmarks/published.py --golden ../shared/golden [--markdown]

Each case holds the key names and shapes of a published checkpoint, inputs, and what the published
code computes of them. The weights go the way a user's file goes (`skyfix checkpoint import`); the
table has the largest difference of any output number.
"""

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from tables import TextTable, show, verdict

from skyfix.train.checkpoint import load_network
from skyfix.train.models.network import Network
from skyfix.train.models.sample4geo import Sample4Geo
from skyfix.train.models.three_view import University1652
from skyfix.train.official import import_checkpoint

LIMIT = 1e-5
SYSTEMS = {  # the longest fitting prefix of a case's name
    "geodtr_v1": "geodtr", "geodtr_plus": "geodtr_plus", "mfrgn": "mfrgn",
    "mfrgn_drone": "mfrgn_drone", "sample4geo": "sample4geo", "university1652": "university1652",
}  # fmt: skip
SETTINGS = {"university1652": {"stride": "1", "share": "true"}}  # shapes do not tell
SIZES = {"sample4geo": {"image": (256, 256)}}


def main() -> None:
    """Import and run every case, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    reference = reference_from_file(arguments.golden / "fill.py")
    header = ("case", "parameters", "outputs", "largest difference", f"limit {LIMIT:.0e}")
    rows = [
        row(arguments.golden, path.stem, reference)
        for path in sorted(arguments.golden.glob("*.json"))
    ]
    show(TextTable("published networks", header, rows), markdown=arguments.markdown)


def row(golden: Path, case: str, reference: ModuleType) -> tuple[str, ...]:
    """A line of the table."""
    stated = json.loads((golden / f"{case}.json").read_text())
    network = imported(case, stated["state_dict"], reference)
    images = {
        name: torch.from_numpy(reference.image(name, tuple(shape)))
        for name, shape in stated["inputs"].items()
    }
    with torch.no_grad(), np.load(golden / f"{case}.npz") as published:
        differences = [
            float(np.abs(ours.numpy() - published[name]).max())
            for name, ours in outputs(network, images)
            if name in published
        ]
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    worst = max(differences)
    return (
        case, f"{parameters:.2f} M", str(len(differences)), f"{worst:.1e}",
        verdict(met=worst <= LIMIT),
    )  # fmt: skip


def imported(case: str, shapes: dict[str, list[int]], reference: ModuleType) -> Network:
    """The case's network, by way of a file of published key names."""
    system = SYSTEMS[max((prefix for prefix in SYSTEMS if case.startswith(prefix)), key=len)]
    state = {
        key: torch.from_numpy(np.asarray(reference.fill(key, tuple(shape))))
        for key, shape in shapes.items()
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(state, folder / "official.pth")
        import_checkpoint(
            folder / "official.pth", system, folder / "ours", SETTINGS.get(system, {}),
            SIZES.get(system),
        )  # fmt: skip
        return load_network(folder / "ours")


def outputs(
    network: Network, images: dict[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every output under the reference's name."""
    for view, batch in images.items():
        if isinstance(network, University1652):
            yield f"feature_{view}", network.features(view, batch)
            yield f"logits_{view}", network.classify(view, batch)
        elif isinstance(network, Sample4Geo):
            yield view, network.features(batch)
        else:
            encoded = network.encode(view if view in network.views else network.views[0], batch)
            yield view, encoded.descriptor
            if encoded.layout is not None:
                yield f"{view}_layout", encoded.layout


def reference_from_file(path: Path) -> ModuleType:
    """What makes the cases' weights and inputs of their names."""
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
