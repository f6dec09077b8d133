"""What every package uses: errors, clips and explanations in memory, files and folders, intervals of means.

Importing it loads nothing heavy, so that `vidact --version` and `--help` answer at once.
"""

__version__ = "0.1.0"
