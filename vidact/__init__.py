"""Train networks that recognise human actions in video, and see what they look at.

Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
