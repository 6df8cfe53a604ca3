"""The experiment: the real system under faults, and the proof that nothing is lost and nothing doubled.

It stands beside the product and judges it: it starts `guilder up` as people do, calls it over HTTP, breaks what can break,
and then holds three records against each other that know nothing of one another: what the clients wrote down before they
sent it (history.py), what the bank world has done (`/truth`), and our books (`guilder check`, and SQL of its own in books.py).

Start with: README.md, then run.py. Of the product it uses the command line, the entry point that it patches (entry.py), the
frame reader of ISO 8583 for its proxy, and, in simulation/, the pure decisions that the simulation is about.
"""
