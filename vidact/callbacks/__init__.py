"""What connects Lightning to attribution, analysis, report and wandb."""
