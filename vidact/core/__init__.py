"""What every package uses: errors, clips and explanations in memory, files and folders, intervals of means.

Importing it loads nothing heavy, so that `vidact --version` and `--help` answer at once.

Shape legend of all packages: B batch, C colour, T time (frames), H height, W width, K classes.
A video in memory is uint8 [B, C, T, H, W] until it is on the device, then float in [0, 1].
Relevance has the shape of the network's input.
"""

__version__ = "0.1.0"
