"""From clips on disk to batches: data set layouts, checks of every file, splits, decoding, and the data module."""
