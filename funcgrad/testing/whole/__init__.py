"""Programs evaluated array by array, for those too large to be walked number by number."""
