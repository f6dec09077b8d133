"""Names, units and defaults of explanations; imports no torch, so that the command line's help answers at once."""

LRP = "lrp"
DEFAULT_COMPOSITE = "epsilon_plus"  # where rules are put on modules
ATTNLRP, CP_LRP = "attnlrp", "cp_lrp"  # composites in gradient form
AUTO = "auto"  # the first where it can follow the network, else CP_LRP
PREDICTED, TRUE = "predicted", "true"  # the class that the network predicts, and the one that the data set names
HOTSPOT_THRESHOLD = 0.3  # a voxel is a hotspot from this share of the largest |R| on, as in the report of 2020

LOGIT = "units of the logit"
_UNITS = {
    **dict.fromkeys((LRP, "gradient_x_input", "integrated_gradients", "occlusion"), LOGIT),
    "extremal": "kept share",
    **dict.fromkeys(("gradient", "smoothgrad", "guided_backpropagation"), "logit per unit of brightness"),
}


def unit_of(method: str) -> str:
    """Say what a method's relevance is measured in.

    Args:
        method: One of `registry.METHODS`, with or without a name after the colon.
    """
    return _UNITS.get(method.partition(":")[0], "arbitrary units")
