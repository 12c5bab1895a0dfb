"""Retrieval metrics over unit descriptors, as each benchmark defines them.

    s_qg    = <query q, gallery g>, on a grid of 2^-30
    rank_q  = #{g: s_qg > s_q,right}             optimistic: a tie is no worse item
    place_i = rank_i + #{g before i: s_qg = s_qi}  stable: ties keep the gallery's order

    one right item (pairs, VIGOR)   hit@K <=> rank < K
    many right items (University)   hit@K <=> lowest place < K
        AP = mean over the n right items, by place r_0 < r_1 ..., of (p_before + p) / 2
             p = (i + 1) / (r_i + 1),  p_before = i / r_i, or 1 where r_i = 0

Shares are in percent of all queries, those without a right item included. Similarities stand in
ordering.py; here are ranks, places and positions.
"""

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_KM = 6378.137  # of DenseUAV's published code
SDM_SCALE = 5000.0  # DenseUAV: exp(-5000 d), d in degrees

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def recall(ranks: Integers, k: int, queries: int | None = None) -> float:
    """Percent of the queries whose rank (from 0) is below k.

    Args:
        ranks: (Q,) of the queries that have a right item.
        k: how many retrieved items are looked at.
        queries: all queries where some have no right item; None: those in `ranks`.
    """
    total = len(ranks) if queries is None else queries
    return 100.0 * float(np.count_nonzero(ranks < k)) / max(total, 1)


def k_of_pairs(gallery: int) -> int:
    """K of R@1% on CVUSA, CVACT and VIGOR in Sample4Geo's and MFRGN's code (8,884 -> 88)."""
    return gallery // 100


def k_of_geodtr_vigor(gallery: int) -> int:
    """K of R@1% on VIGOR in GeoDTR's code, one more."""
    return int(0.01 * gallery) + 1


def k_of_university(gallery: int) -> int:
    """K of R@1% on University-1652 (951 -> 11): its code reads the curve at round(0.01 G)."""
    return round(0.01 * gallery) + 1


def average_precision(places: Integers) -> float:
    """University-1652's trapezoidal AP (0..1) of one query.

    Args:
        places: (n,) of its right items, from 0, ascending. One item at 0, 1, 2: 1, 1/4, 1/6.
    """
    found = np.arange(len(places))
    precision = (found + 1) / (places + 1)
    before = np.where(places > 0, found / np.maximum(places, 1), 1.0)
    return float(np.mean((before + precision) / 2))


def mean_average_precision(places: Integers) -> float:
    """Percent, over all queries; one without a right item adds nothing and counts.

    Args:
        places: (Q, P) places of the right items, -1 where there are fewer than P.
    """
    rows = (np.sort(row[row >= 0]) for row in places)
    return 100.0 * sum(average_precision(row) for row in rows if len(row)) / max(len(places), 1)


def sdm(query_deg: Floats, retrieved_deg: Floats, k: int) -> float:
    """DenseUAV's SDM@K in percent: how near the first k items are, the first ones weighing most.

        sum over i < K of (1 - i/K) exp(-5000 d_i)  /  sum over i < K of (1 - i/K)

    Args:
        query_deg: (Q, 2).
        retrieved_deg: (Q, >= k, 2) positions of what was retrieved, best first.
        k: how many of them count.
    """
    weight = 1 - np.arange(k) / k  # (K,)
    distance_deg = np.linalg.norm(retrieved_deg[:, :k] - query_deg[:, None], axis=2)  # (Q, K)
    score = np.exp(-SDM_SCALE * distance_deg) @ weight / weight.sum()  # (Q,)
    return 100.0 * float(score.mean())


def within(query_deg: Floats, first_deg: Floats, limit_m: float) -> float:
    """DenseUAV's MA@m: percent of the queries whose first item lies within `limit_m` metres."""
    return 100.0 * float(np.mean(haversine_m(query_deg, first_deg) < limit_m))


def haversine_m(a_deg: Floats, b_deg: Floats) -> Floats:
    """Metres between latitudes and longitudes (..., 2) on a sphere."""
    (lat_a, lon_a), (lat_b, lon_b) = (np.moveaxis(np.radians(p), -1, 0) for p in (a_deg, b_deg))
    half = (
        np.sin((lat_b - lat_a) / 2) ** 2
        + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    )
    distance: Floats = 2e3 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return distance
