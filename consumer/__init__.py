"""Keeps a patient's STOP.

    sms.inbound -> classifier -> sms.keyword-ledger -> applier -> Redis: the suppression set, and an outbox
                   intake                              voucher    publisher -> sms.subscription-changed,
                                                                               sms.confirmation-requested

The classifier reads what patients text and writes the keywords among it to the ledger. The applier reads the ledger and
keeps the suppression set, from which on an opt-out is in force; the publisher tells each change once; the voucher says
up to when the set can be believed. A producer asks the guard before each send, and only ALLOWED may send.
"""
