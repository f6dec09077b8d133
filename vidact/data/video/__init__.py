"""Single video files: reading their frames, their time stamps, what is wrong with them, and which look alike."""
