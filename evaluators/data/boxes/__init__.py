"""Pictures with boxes, for detection: readers of the published layouts, what they mend, and splits ready to train on."""
