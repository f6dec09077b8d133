"""Find out what a network leans on: exchange a part of clips for that of other clips, and ask the network again."""
