"""The words by which data sets name the sides of their own split; it knows no clips."""

TRAINING, VALIDATION, TEST = "training", "validation", "test"
SPELLINGS = {
    TRAINING: ("train", "training"),
    VALIDATION: ("val", "valid", "validation", "validate", "dev"),
    TEST: ("test", "testing"),
}
_SIDE_OF = {word: side for side, words in SPELLINGS.items() for word in words}


def side_of(word: str) -> str | None:
    """Tell which side a word names, in whatever case; None where it names none."""
    return _SIDE_OF.get(word.strip().casefold())
