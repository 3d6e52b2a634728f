ALTER TABLE nodes ADD COLUMN buried_at timestamptz; -- what it held was taken away; the row stays for an hour, to be explained
