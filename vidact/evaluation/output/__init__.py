"""Write an evaluation: files, Markdown, pictures, wandb."""
