"""Reconstruction attacks carried out on a finished run: its cohort, its network, its clipping and noise."""
