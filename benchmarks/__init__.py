"""What the system does in a second, and where each microsecond goes, measured on real processes over HTTP.

Owns:       benchmarks/history, one JSON line a run.
May import: guilder; nothing of guilder imports this.
Start with: __main__.py, then payments.py.
"""
