"""Is an explanation right? Measures of tensors; they know no network by name and no file."""
