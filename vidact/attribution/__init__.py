"""Explain a network's score for a class, voxel by voxel: LRP, gradients, Grad-CAM, occlusion and controls.

`registry.build_explainer` builds an explainer by the name of its method.
"""
