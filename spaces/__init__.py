"""What can be built: attention types, placements, backbones and the space of architectures over them."""

from spaces.backbone import build_model, describe_backbone, list_backbones
from spaces.placement import Architecture, Placement
from spaces.space import SearchSpace

__all__ = ["Architecture", "Placement", "SearchSpace", "build_model", "describe_backbone", "list_backbones"]
