"""A JSON object per line, after the Elastic Common Schema.

``json_record`` says what a line must be, ``jsonl`` puts it together faster; no text for people.
"""
