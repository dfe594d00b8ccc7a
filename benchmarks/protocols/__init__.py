"""The four settings and the published one, and what each change of protocol does to the order."""
