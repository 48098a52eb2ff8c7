"""Membership inference: whose images a released model was trained on, told from what it says about them."""
