"""The template's worker and gateway against their peers: `python -m loadtests.compare`. Standard library only."""
