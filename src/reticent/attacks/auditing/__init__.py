"""Auditing: what planted patients prove about a private training, and whether it does what is accounted for."""
