"""Bytes and records: Avro in the Confluent wire format.

framing    magic byte, schema id, body
schemas    schemas and their ids from the files in `schemas/`
registry   the same from a schema registry
records    records and the flat values that Avro knows
codec      bytes <-> records: what the other packages use
"""
