"""Read a run: its folder, config, network, checkpoints, split, predictions and accuracy; log to CSV files and wandb."""
