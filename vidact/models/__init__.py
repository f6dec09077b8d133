"""Networks that recognise actions in clips: from video [B, C, T, H, W] in [0, 1] to logits [B, K].

A new network is one file here and a recipe in configs/; `tests/models/test_contract.py` then checks it.
"""
