"""Download HMDB51 from its mirrors and unpack it safely."""
