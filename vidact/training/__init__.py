"""Train networks with Lightning: the LightningModule, its losses and schedules, callbacks, and resuming."""
