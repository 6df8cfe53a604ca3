"""The deterministic simulation: the product's pure decisions, and the sender's fencing, in a world that a seed decides.

Real are: what begins an attempt, what comes next for it, what an outcome makes of a payment, when it is asked again, what a
refund reserves, the ledger's rules, and who may send (payments/*, ledger/pure.py, db/sender.py). Models are: the store with its
guards (store.py), the PSP (bank.py), the wire, the clock, processes that die and stand still (world.py). Nothing waits: an
hour of that world takes milliseconds.
"""
