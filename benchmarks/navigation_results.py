"""All rows of a run of navigation.py, and the names that stand in them."""

import msgspec
from navigation_flights import FlightRow
from navigation_still import StillRow
from navigation_wrong import WrongRow

SEEN, UNSEEN = PARTS = ("seen", "unseen")  # while anything was tuned
FENGYUAN, LAND, NUST, NAIP, DRAWN = "fengyuan", "100 km2", "nust", "naip", "procedural"


class Results(msgspec.Struct):
    """What was run so far."""

    still: list[StillRow] = []
    flights: list[FlightRow] = []
    wrong: list[WrongRow] = []
