"""Units of relevance, by method."""

LRP = "lrp"


LOGIT = "units of the logit"


_UNITS = {
    **dict.fromkeys((LRP, "gradient_x_input", "integrated_gradients", "occlusion"), LOGIT),
    **dict.fromkeys(("gradient", "smoothgrad", "guided_backpropagation"), "logit per unit of brightness"),
}


def unit_of(method: str) -> str:
    """Say what a method's relevance is measured in.

    Args:
        method: One of `METHODS`, with or without a name after the colon.
    """
    return _UNITS.get(method.partition(":")[0], "arbitrary units")
