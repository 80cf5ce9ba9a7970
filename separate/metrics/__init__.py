"""Measures of separation: BSS Eval in two versions, energies, and the tables made of them."""
