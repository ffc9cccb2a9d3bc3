"""Programs evaluated array by array, where number by number would take too long."""
