"""How many images and places the published data sets hold, for `skyfix data check`.

Sources: the data sets' own tables and read-me files; VIGOR's and CVACT's test set from the papers.
"""

from typing import NamedTuple


class Count(NamedTuple):
    """Images, and places where that is another number."""

    images: int
    places: int | None = None


# data set -> (split, part) -> count, split and part as the table of `skyfix data check` has them
PUBLISHED: dict[str, dict[tuple[str, str], Count]] = {
    "cvusa": {
        ("train", "pairs"): Count(35_532),
        ("train", "ground"): Count(35_532),
        ("train", "aerial"): Count(35_532),
        ("val", "query ground"): Count(8_884),
        ("val", "gallery aerial"): Count(8_884),
    },
    "cvact": {
        ("train", "pairs"): Count(35_532),
        ("train", "ground"): Count(35_532),
        ("train", "aerial"): Count(35_532),
        ("val", "query ground"): Count(8_884),
        ("val", "gallery aerial"): Count(8_884),
        ("test", "query ground"): Count(92_802),
        ("test", "gallery aerial"): Count(92_802),
    },
    "vigor, same area": {
        ("train", "pairs"): Count(52_609),
        ("train", "ground"): Count(52_609),
        ("train", "aerial"): Count(90_618),
        ("same area", "query ground"): Count(52_605),
        ("same area", "gallery aerial"): Count(90_618),
    },
    "vigor, cross area": {
        ("train", "pairs"): Count(51_520),
        ("train", "ground"): Count(51_520),
        ("train", "aerial"): Count(44_055),
        ("cross area", "query ground"): Count(53_694),
        ("cross area", "gallery aerial"): Count(46_563),
    },
    "university1652": {
        ("train", "pairs"): Count(37_854),
        ("train", "drone"): Count(37_854, 701),
        ("train", "satellite"): Count(701, 701),
        ("train", "street"): Count(11_663, 701),
        ("test", "query drone"): Count(37_855, 701),
        ("test", "query satellite"): Count(701, 701),
        ("test", "query street"): Count(2_579, 701),
        ("test", "gallery drone"): Count(51_355, 951),
        ("test", "gallery satellite"): Count(951, 951),
        ("test", "gallery street"): Count(2_921, 793),
        ("test masked", "query street"): Count(2_579),
        ("test masked", "gallery satellite"): Count(951),
    },
    "sues200": {
        ("train", "pairs"): Count(24_000),
        ("train", "drone"): Count(24_000, 120),
        ("train", "satellite"): Count(120, 120),
    }
    | {
        (f"test {height} m", part): count
        for height in (150, 200, 250, 300)
        for part, count in (
            ("query drone", Count(4_000, 80)),
            ("query satellite", Count(80, 80)),
            ("gallery drone", Count(10_000, 200)),
            ("gallery satellite", Count(200, 200)),
        )
    },
    "denseuav": {
        ("train", "pairs"): Count(13_536),
        ("train", "drone"): Count(6_768, 2_256),
        ("train", "satellite"): Count(13_536, 2_256),
        ("test", "query drone"): Count(2_331, 777),
        ("test", "query satellite"): Count(4_662, 777),
        ("test", "gallery drone"): Count(9_099, 3_033),
        ("test", "gallery satellite"): Count(18_198, 3_033),
    },
}
