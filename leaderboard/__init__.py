"""From finished cells to the table: reads results only, never torch."""
