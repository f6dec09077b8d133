"""The command line `python -m vidact VERB`: `main` finds the verb, `verbs` has a file for each."""
