"""Architectures that have attention wherever a backbone offers a site."""

from spaces.backbone import describe_backbone
from spaces.placement import SITES, Architecture, Placement


def everywhere(name: str, placement: str) -> Architecture:
    """One placement in all stages that have its sites."""
    kind = placement.partition("@")[2]
    stages = describe_backbone(name).stages
    return Architecture.parse(f"{name}:" + ",".join(placement if kind in s.sites else "none" for s in stages))


def mixed(name: str) -> Architecture:
    """CBAM in every stage, at each kind of site in turn."""
    placements = []
    for number, stage in enumerate(describe_backbone(name).stages):
        kinds = [kind for kind in SITES if kind in stage.sites]
        placements.append(Placement("cbam", reduction=4, site=kinds[number % len(kinds)]))
    return Architecture(name, tuple(placements))
