"""Turn what a network answered into estimates with intervals, and verdicts."""
