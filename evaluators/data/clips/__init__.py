"""Videos with one label each, and clips of them: readers, splits, batches."""
