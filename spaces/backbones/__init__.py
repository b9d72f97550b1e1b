"""Plain networks by name, and their structure found in one recorded forward pass; ``spaces.backbone`` is the face."""
