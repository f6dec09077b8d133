"""The methods that explain any network; the others need a transformer, and refuse networks without attention.

`tests/attribution/methods/test_attention.py` has the others.
"""

from vidact.attribution.registry import METHODS

ANY_NETWORK = [name for name in METHODS if name not in ("attention_rollout", "gradient_x_attention")]
