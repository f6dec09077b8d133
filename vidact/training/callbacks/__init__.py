"""Lightning callbacks that vidact adds to a run: checkpoints, config, pictures, explanations, logs."""
