ALTER TABLE nodes ADD COLUMN buried_at TEXT; -- what it held was taken away; the row stays for an hour, to be explained
