"""What timm.create_model hands to the function of a network, as our own networks take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def network_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that are for the network itself, which refuses those that it does not know, as timm's networks do.

    Raises RuntimeError for ``features_only``, in timm's way.
    """
    if kwargs.get("features_only"):
        raise RuntimeError("features_only not implemented for this model.")
    return {
        key: value
        for key, value in kwargs.items()
        if key not in ("features_only", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    }
