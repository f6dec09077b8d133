"""Draw what a network leans on."""
