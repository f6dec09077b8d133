"""Names of controls, measures, masks and units that settings, measures and tables share; imports no torch."""

RANDOM, CENTRE, MOTION_ENERGY, INTENSITY = "random", "centre", "motion_energy", "intensity"
CONTROLS = (RANDOM, CENTRE, MOTION_ENERGY, INTENSITY)  # maps that know nothing of the network
COMPARED_WITH = (*CONTROLS, "gradient")  # the gradient is a method, too; the others are compared with it
NETWORK = "network"  # in place of a method's name, for what is measured of the network alone
ALL, RIGHT, WRONG = "all", "right", "wrong"
SUBSETS = (ALL, RIGHT, WRONG)

PERTURBATION, LOCALISATION, COMPOSITION = "perturbation", "localisation", "composition"
RANDOMISATION, SENSITIVITY, SPARSENESS = "randomisation", "sensitivity", "sparseness"
FAMILIES = (PERTURBATION, LOCALISATION, COMPOSITION, RANDOMISATION, SENSITIVITY, SPARSENESS)

TRUE_MASKS = ("strict", "actor")  # the kinds of masks that show where the class can be seen
CONFOUNDER = "confounder"  # the kind of masks where relevance is neither right nor wrong: it has to follow reliance

TUBES, FRAMES, COLUMNS = "tubes", "frames", "columns"
UNITS = (TUBES, FRAMES, COLUMNS)
FRAMES_ONLY = frozenset({"freeze", "mean_frame"})  # fills that replace whole frames
