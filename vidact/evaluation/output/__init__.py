"""Write an evaluation to files, Markdown, pictures and wandb."""
