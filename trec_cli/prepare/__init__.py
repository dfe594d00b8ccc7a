"""Reading real collections into items and examples with candidates."""
