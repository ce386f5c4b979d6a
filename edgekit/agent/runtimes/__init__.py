"""What executes an artifact. One file per runtime; `table.py` lists them."""
