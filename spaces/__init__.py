"""What can be built: attention types, placements, backbones and the space of architectures over them."""
