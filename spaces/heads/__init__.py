"""What networks put out besides classes of images: heads of segmentation and detection, on any backbone with stages."""
