"""Draw one clip: bars per frame, contact sheet, explanations side by side."""
