"""Guilder: a payment system that a merchant or a marketplace runs itself. `docs/ARCHITECTURE.md` draws the house."""

__version__ = "0.1.0"
