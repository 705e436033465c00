"""How a run is carried out: its record, its share of the input, its processes and devices."""
