"""Why goals are missed, in words: what the report says beside the figures. Filled in by hand.

Pure data. A key is the beginning of a goal as the report names it, the longest that fits is taken;
with "zarrfuse-fusepy: " before it, it is meant for that contestant alone.
"""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {}


def reason(reasons: Mapping[str, str], us: str, goal: str) -> str | None:
    """The reason that was noted; None where nobody has looked yet."""
    for text in (f"{us}: {goal}", goal):
        found = max((key for key in reasons if text.startswith(key)), key=len, default=None)
        if found is not None:
            return reasons[found]
    return None
