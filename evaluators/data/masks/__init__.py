"""Pictures with masks, for segmentation: readers of the published layouts, what pixel values stand for, splits and batches."""
