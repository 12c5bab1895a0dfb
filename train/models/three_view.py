"""The baseline of University-1652 (arXiv 2002.12186): a classifier of buildings in all views.

    image of view v -> trunk of v -> pool (B, C) -> Linear 512, BatchNorm, Dropout = feature
                                                    feature -> Linear = logits of the buildings

One classifier block serves all views, so features of one building agree across them. What is
compared is the feature of unit length, summed over the image and its mirror image before.

    trunk      satellite   street, google   drone                    (published names)
    3 views    model_1     model_2          model_3; shared: model_1
    2 views    model_1     model_2; shared: model_1

The published two-view network has two inputs, satellite and whatever it is compared with.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.runtime.errors import InputError, ModelError

from .config import InputSizes, University1652Config
from .network import Encoded, Network
from .resnet import ResNet
from .vgg import VGG16

WIDTH = 512  # of the feature
GEM_POWER = 3.0  # published code; learned from there, one a channel
GEM_FLOOR = 1e-6  # published code
CLASSIFIER_STD = 0.001  # published code
NORM_STD = 0.02  # published code: the block's BatchNorm starts at N(1, 0.02)


class University1652(Network):
    """Descriptors of 512 dimensions."""

    def __init__(self, config: University1652Config, input_px: InputSizes) -> None:
        super().__init__(input_px)
        self._trunk_of = trunk_names(config)
        unknown = sorted(set(input_px) - set(self._trunk_of))
        if unknown:
            raise InputError(
                f"views {', '.join(unknown)} are unknown to University-1652's baseline: "
                f"name some of {', '.join(self._trunk_of)}"
            )
        trunks = {name: Trunk(config) for name in sorted(set(self._trunk_of.values()))}
        self.trunks = nn.ModuleDict(trunks)
        self.classifier = ClassBlock(trunks["model_1"].width, config.classes, config.dropout)

    def encode(self, view: str, images: torch.Tensor) -> Encoded:
        """Encode images (B, 3, H, W); logits (B, classes) only while training."""
        feature = self.features(view, images)  # (B, 512)
        descriptor = F.normalize(feature.float(), dim=1)
        logits = self.classifier.classifier(feature) if self.training else None
        return Encoded(descriptor, logits=logits)

    def features(self, view: str, images: torch.Tensor) -> torch.Tensor:
        """Features (B, 512), not normalised; while training with dropout, as published."""
        pooled = self.trunks[self._trunk_of[view]](images)  # (B, C)
        return torch.as_tensor(self.classifier.add_block(pooled))

    def classify(self, view: str, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of images (B, 3, H, W)."""
        return torch.as_tensor(self.classifier.classifier(self.features(view, images)))

    def flip_summed(self, view: str, images: torch.Tensor) -> torch.Tensor:
        """The published test descriptor (B, D): features of image and mirror image, summed."""
        both = self.features(view, images) + self.features(view, images.flip(3))
        return F.normalize(both.float(), dim=1)


class Trunk(nn.Module):
    """Backbone and pooling."""

    def __init__(self, config: University1652Config) -> None:
        super().__init__()
        vgg = config.backbone == "vgg16"
        self.model = VGG16() if vgg else ResNet("resnet50", last_stride=config.stride)
        self.pool = Pool(config.pool, self.model.widths[-1])
        self.width = self.pool.width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, C)."""
        return torch.as_tensor(self.pool(self.model(images)))


class Pool(nn.Module):
    """One number, or two, a channel."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = 2 * channels if kind == "avg+max" else channels
        if kind == "gem":
            self.p = nn.Parameter(torch.full((channels,), GEM_POWER))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C), or (B, 2C) where both pools are taken."""
        if self.kind == "gem":
            raised = x.clamp(min=GEM_FLOOR).pow(self.p[:, None, None])  # (B, C, H, W)
            return raised.mean(dim=(2, 3)).pow(1 / self.p)
        if self.kind == "avg+max":
            return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return x.amax(dim=(2, 3)) if self.kind == "max" else x.mean(dim=(2, 3))


class ClassBlock(nn.Module):
    """What all views share: pooled maps to features, features to logits."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        narrow, norm = nn.Linear(channels, WIDTH), nn.BatchNorm1d(WIDTH)
        nn.init.kaiming_normal_(narrow.weight, mode="fan_out")
        nn.init.normal_(norm.weight, 1.0, NORM_STD)
        last = nn.Linear(WIDTH, classes)
        nn.init.normal_(last.weight, std=CLASSIFIER_STD)
        for module in (narrow, norm, last):
            nn.init.zeros_(module.bias)
        self.add_block = nn.Sequential(narrow, norm, nn.Dropout(dropout))
        self.classifier = nn.Sequential(last)


def trunk_names(config: University1652Config) -> dict[str, str]:
    """View -> its trunk, by the published names."""
    if config.views == 2:
        other = "model_1" if config.share else "model_2"
        return {"satellite": "model_1", "street": other, "google": other, "drone": other}
    drone = "model_1" if config.share else "model_3"
    return {"satellite": "model_1", "street": "model_2", "google": "model_2", "drone": drone}


def config_from_official(state: Mapping[str, torch.Tensor]) -> University1652Config:
    """What published weights tell of their network; stride, and avg or max, they do not.

    The trunks are shared where their values are the same. Raises ModelError.
    """
    try:
        classes = len(state["classifier.classifier.0.weight"])
        pooled = state["classifier.add_block.0.weight"].shape[1]
    except KeyError as error:
        raise ModelError(
            f"{error} is missing: these are no weights of University-1652's baseline"
        ) from error
    vgg = "model_1.model.features.0.weight" in state
    three = any(key.startswith("model_3.") for key in state)
    both = pooled == 2 * (512 if vgg else 2048)
    gem = "model_1.model.gem2.p" in state
    return University1652Config(
        backbone="vgg16" if vgg else "resnet50",
        views=3 if three else 2,
        share=_repeats_first_trunk(state, "model_3" if three else "model_2"),
        pool="gem" if gem else "avg+max" if both else "avg",
        classes=classes,
    )


def state_from_official(
    state: Mapping[str, torch.Tensor], config: University1652Config | None = None
) -> dict[str, torch.Tensor]:
    """Published weights under our names, without the unused ImageNet heads.

    Args:
        state: published key -> tensor.
        config: the network's; None: as `config_from_official` reads it. Where it shares a trunk of
            which the state holds two values, the later name's stands: so the published code
            loads them.
    """
    config = config or config_from_official(state)
    kept = {key: value for key, value in state.items() if key.startswith("classifier.")}
    sources = {name: name for name in trunk_names(config).values()}
    if config.share:
        sources["model_1"] = f"model_{config.views}"
    for name, source in sources.items():
        kept |= _trunk_from_official(state, name, source)
    return kept


def _trunk_from_official(
    state: Mapping[str, torch.Tensor], name: str, source: str
) -> dict[str, torch.Tensor]:
    """The official trunk `source` as our trunk `name`."""
    prefix, trunk = f"{source}.model.", {}
    for key, value in state.items():
        inner = key.removeprefix(prefix)
        if inner == key or inner.startswith(("fc.", "classifier.")):
            continue
        ours = "pool.p" if inner == "gem2.p" else f"model.{inner}"
        trunk[f"trunks.{name}.{ours}"] = value
    return trunk


def _repeats_first_trunk(state: Mapping[str, torch.Tensor], name: str) -> bool:
    """Whether the trunk `name` has the values of model_1."""
    for key, value in state.items():
        if key.startswith(f"{name}."):
            first = state.get(key.replace(name, "model_1", 1))
            if first is None or not torch.equal(first, value):
                return False
    return True
