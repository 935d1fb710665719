"""Exports of annotation tools → plain rows with a text and a label. One file per tool; `known.py` lists them."""
