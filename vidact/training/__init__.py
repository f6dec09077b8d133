"""Train networks: the LightningModule, callbacks, resuming."""
