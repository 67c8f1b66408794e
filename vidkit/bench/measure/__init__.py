"""What a step or a loader costs: operations, memory, attention, time."""
