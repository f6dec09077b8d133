"""From clips to batches: windows, cached decoding, masks, augmentation, order of training, DataLoader workers."""
